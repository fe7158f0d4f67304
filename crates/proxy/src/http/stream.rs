//! One request from its head to its log line: the request path on one page.
//!
//! ```text
//! checked head → host, path and forwarding fields → route → filters in order → cluster → endpoint → answer → log, metrics
//! ```
//!
//! - Reads: `plan::http::Hcm`, `plan::route::RouteTable`.
//! - Rule: policy is judged per request by the plan in force when its head is complete; the stream keeps that plan to its end.
//! - Rule: every request ends in [`Stream::finish`], whatever way it went.
//! - Not here: bytes (`downstream_h1.rs`, `downstream_h2.rs`, `exchange.rs`), attempts (`router.rs`).

use super::answer;
use super::body::{BodyRx, Chunk, Data};
use super::info::Info;
use super::local_reply::LocalReply;
use super::request::{Protocol, Request};
use super::responder::{AnswerBody, Responder};
use super::router::{self, Downstream, Target};
use super::timeout::{Timer, Timers, grpc_timeout};
use super::{client_cert, forwarded, request_id};
use crate::cluster::PoolKey;
use crate::connection::{ConnectionFacts, request_view};
use crate::filters::{self, Flow, grpc_stats::Messages};
use crate::transport::TlsSession;
use crate::worker::{Config, Worker};
use lateen_base::headers;
use lateen_http1::{Framing, Known, ResponseHead, TargetForm};
use lateen_plan::http::{Hcm, RouteSource, StripPort, Underscores};
use lateen_plan::listener::Listener;
use lateen_plan::normalize::PathVerdict;
use lateen_plan::request::{Connection, RequestView};
use lateen_plan::route::rewrite::split_port;
use lateen_plan::route::{Action, RequireTls, RouteDecision, RouteId, RouteMatched, RouteTable, route};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The connection a request came by.
pub(crate) struct Origin {
    pub(crate) worker: Rc<Worker>,
    pub(crate) facts: Rc<ConnectionFacts>,
    pub(crate) tls: Option<Rc<TlsSession>>,
    /// ALPN lists made for this connection's requests.
    pub(crate) alpn: filters::alpn::Lists,
}

/// What decides about a request: configuration and where it came from.
pub(crate) struct Rules<'c> {
    pub(crate) origin: &'c Origin,
    pub(crate) hcm: Arc<Hcm>,
    pub(crate) listener: Arc<Listener>,
    pub(crate) config: Rc<Config>,
    pub(crate) table: Option<Arc<RouteTable>>,
    pub(crate) route: Option<RouteId>,
    pub(crate) notes: filters::Notes,
}

/// One request in work.
pub(crate) struct Stream<'c> {
    pub(crate) request: Request,
    pub(crate) response: ResponseHead,
    pub(crate) info: Info,
    pub(crate) rules: Rules<'c>,
    pub(crate) watch: Messages,
    /// The connection's timer, while no deadline uses it.
    pub(crate) timer: Timer,
}

impl Rules<'_> {
    pub(crate) fn worker(&self) -> &Rc<Worker> {
        &self.origin.worker
    }

    /// The route taken, if one was.
    pub(crate) fn matched(&self) -> Option<RouteMatched<'_>> {
        self.table.as_ref()?.at(self.route?)
    }

    /// The connection as authorization and hashing see it.
    pub(crate) fn connection(&self, info: &Info) -> Connection<'_> {
        let view = request_view(&self.origin.facts, self.origin.tls.as_deref());
        Connection { remote: info.client.unwrap_or(self.origin.facts.remote), ..view }
    }

    /// Fields of the final answer, before it goes down.
    pub(crate) fn finish_answer(&self, request: &Request, head: &mut ResponseHead, info: &mut Info) {
        filters::on_answer(self, request, head, info);
        answer::finish(self, request, head, info);
    }
}

impl<'c> Stream<'c> {
    pub(crate) fn new(origin: &'c Origin, hcm: Arc<Hcm>, listener: Arc<Listener>, request: Request, response: ResponseHead) -> Self {
        let config = origin.worker.config();
        let rules = Rules { origin, hcm, listener, config, table: None, route: None, notes: filters::Notes::default() };
        Self { request, response, info: Info::default(), rules, watch: Messages::default(), timer: None }
    }

    pub(crate) fn worker(&self) -> &Rc<Worker> {
        self.rules.worker()
    }

    /// Serves the request.
    pub(crate) async fn serve(&mut self, rx: &mut BodyRx<'_>, responder: &mut Responder<'_>) {
        let reply = match self.admit() {
            Err(reply) => Some(reply),
            Ok(()) => self.filter_and_route(rx, responder).await.err(),
        };
        if let Some(reply) = reply {
            self.answer_here(reply, responder).await;
        }
        self.finish();
    }

    /// Answers a request whose head could not be read.
    pub(crate) async fn refuse(&mut self, reply: LocalReply, responder: &mut Responder<'_>) {
        self.answer_here(reply, responder).await;
        self.finish();
    }

    /// Brings host, path and forwarding fields into the form in which everything else sees them.
    fn admit(&mut self) -> Result<(), LocalReply> {
        let Self { request, rules, info, .. } = self;
        let (hcm, origin) = (&rules.hcm, rules.origin);
        info.request_head_bytes = request.head.headers.wire_bytes() as u64;
        let tls = origin.tls.is_some();
        request.https = tls;
        info.client = Some(forwarded::apply(hcm, request, origin.facts.remote, tls));
        client_cert::apply(hcm.client_cert, hcm.client_cert_details, origin.tls.as_deref(), &mut request.head.headers);
        let foreign = hcm.use_remote_address && !hcm.preserve_external_request_id;
        if hcm.request_id.generate && (foreign || request.head.headers.known(Known::XRequestId).is_none()) {
            let random = u128::from(origin.worker.draw()) << 64 | u128::from(origin.worker.draw());
            request.head.headers.set(headers::REQUEST_ID.as_bytes(), &request_id::uuid_v4(random));
        }
        if request.protocol == Protocol::Http10 && !hcm.http1.accept_http_10 {
            return Err(LocalReply::low_version());
        }
        if request.head.authority().is_empty() {
            if hcm.http1.default_host_for_http_10.is_empty() {
                return Err(LocalReply::protocol_error(400, "missing_host_header"));
            }
            request.head.set_authority(hcm.http1.default_host_for_http_10.as_bytes());
        }
        if request.head.form == TargetForm::Asterisk {
            return Err(LocalReply::not_absolute());
        }
        underscores(hcm.underscores, request)?;
        strip_host(hcm, origin, request);
        if request.head.form != TargetForm::Authority {
            normalise_path(hcm, request)?;
        }
        if request.head.expect_continue && !hcm.proxy_100_continue {
            request.head.headers.remove_known(Known::Expect);
        }
        Ok(())
    }

    async fn filter_and_route(&mut self, rx: &mut BodyRx<'_>, responder: &mut Responder<'_>) -> Result<(), LocalReply> {
        if self.request.head.expect_continue && !self.rules.hcm.proxy_100_continue {
            let _ = responder.informational(100, &lateen_http1::Headers::default()).await;
        }
        self.find_route();
        let hcm = Arc::clone(&self.rules.hcm);
        for filter in &hcm.filters {
            match filters::on_request(filter, self) {
                Flow::Continue => {}
                Flow::Reply(reply) => return Err(*reply),
                Flow::Delay(wait, then) => {
                    if router::wait_out(wait, rx, responder).await {
                        return Err(LocalReply::client_gone());
                    }
                    if let Some(reply) = then {
                        return Err(*reply);
                    }
                }
            }
        }
        self.act(rx, responder).await
    }

    /// Finds the route. None found is the router's business, so that filters still see the request, as in Envoy.
    fn find_route(&mut self) {
        let table = match &self.rules.hcm.routes {
            RouteSource::Inline(table) => Some(Arc::clone(table)),
            RouteSource::Rds(name) => self.rules.config.plan.routes.get(name).map(Arc::clone),
        };
        let draw = self.worker().draw();
        if let Some(table) = &table
            && let RouteDecision::Matched(matched) = route(table, &self.request, draw)
        {
            self.rules.route = Some(matched.id);
            self.info.route = Some(Arc::clone(&matched.route.name));
        }
        self.rules.table = table;
    }

    /// Does what the route says.
    async fn act(&mut self, rx: &mut BodyRx<'_>, responder: &mut Responder<'_>) -> Result<(), LocalReply> {
        let Some(table) = self.rules.table.clone() else { return Err(LocalReply::route_not_found()) };
        let Some(matched) = self.rules.route.and_then(|id| table.at(id)) else { return Err(LocalReply::route_not_found()) };
        if matched.virtual_host.require_tls != RequireTls::None && !self.request.https {
            return Err(answer::https_redirect(&self.request));
        }
        match &matched.route.action {
            Action::NonForwarding => Err(LocalReply::route_not_found()),
            Action::Redirect(redirect) => Err(answer::redirect(redirect, &matched, &self.request)),
            Action::Direct(direct) => Err(answer::direct(direct)),
            Action::Forward(forward) => self.forward((&table, &matched, forward), rx, responder).await,
        }
    }

    async fn forward(
        &mut self,
        (table, matched, forward): (&RouteTable, &RouteMatched<'_>, &lateen_plan::route::Forward),
        rx: &mut BodyRx<'_>,
        responder: &mut Responder<'_>,
    ) -> Result<(), LocalReply> {
        let not_found = || LocalReply::cluster_not_found(forward.cluster_not_found_status);
        let name = match matched.cluster() {
            Some(name) => Arc::clone(name),
            None => answer::cluster_from_header(matched, &self.request).ok_or_else(not_found)?,
        };
        self.info.cluster_name = Some(Arc::clone(&name));
        let cluster = self.worker().cluster(&name).ok_or_else(not_found)?;
        self.info.cluster = Some(Rc::clone(&cluster));
        let upgrade = self.upgrade_allowed(forward)?;
        let hash = answer::hash(self, forward);
        answer::finish_request(self, table, matched, forward);
        let target = Target {
            forward,
            cluster,
            retry: matched.retry(),
            metadata: matched.weighted.map_or(&forward.metadata_match, |weighted| if weighted.metadata_match.is_empty() { &forward.metadata_match } else { &weighted.metadata_match }),
            attempt_count: matched.virtual_host.include_request_attempt_count,
            hash,
            upgrade,
        };
        let mut timers = self.timers(&target);
        timers.sleep = self.timer.take();
        let reply = router::forward(self, &target, Downstream { rx, responder }, &mut timers).await;
        self.timer = timers.into_timer();
        reply.map_or(Ok(()), Err)
    }

    /// Whether the request is an upgrade that is allowed here.
    fn upgrade_allowed(&mut self, forward: &lateen_plan::route::Forward) -> Result<bool, LocalReply> {
        if !self.request.head.upgrade {
            return Ok(false);
        }
        let wanted = self.request.head.headers.known(Known::Upgrade).unwrap_or_default().to_ascii_lowercase();
        if wanted == b"h2c" {
            // Never switched: the request is served as what it is.
            self.request.head.upgrade = false;
            return Ok(false);
        }
        let by_route = forward.upgrades.iter().find(|(name, _)| name.as_bytes() == wanted).map(|(_, on)| *on);
        let allowed = by_route.unwrap_or_else(|| self.rules.hcm.upgrades.iter().any(|name| name.as_bytes() == wanted));
        if allowed { Ok(true) } else { Err(LocalReply::upgrade_refused()) }
    }

    fn timers(&self, target: &Target<'_>) -> Timers {
        let (forward, hcm) = (target.forward, &self.rules.hcm);
        let zero_is_none = |time: Option<Duration>| time.filter(|time| !time.is_zero());
        let mut timers = Timers::default();
        timers.route = zero_is_none(forward.timeout);
        if let (Some(most), true) = (forward.max_grpc_timeout, self.request.is_grpc())
            && let Some(asked) = self.request.head.headers.get(b"grpc-timeout").and_then(grpc_timeout)
        {
            timers.route = Some(if most.is_zero() { asked } else { asked.min(most) });
        }
        let mut per_try = target.retry.and_then(|policy| policy.per_try_timeout);
        if self.request.head.headers.known(Known::XEnvoy).is_some() {
            let asked = |name: &[u8]| {
                let text = std::str::from_utf8(self.request.head.headers.get(name)?).ok()?;
                text.trim().parse().ok().map(Duration::from_millis)
            };
            timers.route = asked(b"x-envoy-upstream-rq-timeout-ms").map_or(timers.route, |time| zero_is_none(Some(time)));
            per_try = asked(b"x-envoy-upstream-rq-per-try-timeout-ms").or(per_try);
        }
        timers.per_try = zero_is_none(per_try).filter(|per_try| timers.route.is_none_or(|route| *per_try < route));
        timers.idle = match forward.idle_timeout {
            Some(time) => zero_is_none(Some(time)),
            None => hcm.stream_idle_timeout,
        };
        let longest = match forward.max_stream_duration {
            Some(time) => zero_is_none(Some(time)),
            None => hcm.max_stream_duration,
        };
        timers.request_until = hcm.request_timeout.map(|time| self.info.started + time);
        timers.max_duration = longest.map(|time| self.info.started + time);
        if target.upgrade {
            timers.route = None;
            timers.per_try = None;
        }
        timers
    }

    /// The destination for ORIGINAL_DST clusters.
    pub(crate) fn original_dst(&self, target: &Target<'_>) -> SocketAddr {
        if let Some(name) = &target.cluster.plan.override_host_header
            && let Some(named) = self.request.values(name).next()
            && let Some(address) = std::str::from_utf8(named).ok().and_then(|text| text.parse().ok())
        {
            return address;
        }
        self.rules.origin.facts.local
    }

    /// What connections this request may use.
    pub(crate) fn pool_key(&self, target: &Target<'_>) -> PoolKey {
        let sni = target.cluster.plan.http.auto_sni.then(|| {
            let host = split_port(self.request.head.authority()).0;
            Rc::from(String::from_utf8_lossy(host).as_ref())
        });
        PoolKey { alpn: filters::alpn::list(&self.rules, target, self.request.protocol), sni }
    }

    /// Sends an answer made here.
    async fn answer_here(&mut self, reply: LocalReply, responder: &mut Responder<'_>) {
        let (gone, close) = (reply.status == 0, reply.close);
        responder.close |= close;
        let Self { request, response, info, rules, .. } = self;
        let (status, body) = reply.prepare(request, info, &mut response.headers);
        if gone || responder.started {
            responder.reset(h2::Reason::CANCEL);
            return;
        }
        response.status = status;
        rules.finish_answer(request, response, info);
        info.status = response.status;
        let framing = if body.is_empty() { Framing::None } else { Framing::Length(body.len() as u64) };
        let head_only = request.head.method() == b"HEAD" && response.headers.known(Known::ContentLength).is_some();
        let kind = if head_only { AnswerBody::None } else { AnswerBody::Framed(framing) };
        let sent = match responder.head(response.status, &response.headers, kind) {
            Ok(()) if body.is_empty() => responder.body().finish(None).await,
            Ok(()) => match responder.body().data(Chunk { data: Data::Slice(&body), end: true, more: false }).await {
                Ok(()) => responder.body().finish(None).await,
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        match sent {
            Ok(()) => info.bytes_sent = body.len() as u64,
            Err(_) => responder.reset(h2::Reason::CANCEL),
        }
    }

    /// The end of every request: log lines and metrics.
    fn finish(&mut self) {
        self.info.duration = Instant::now().saturating_duration_since(self.info.started);
        filters::on_complete(self);
        super::log::write(self);
    }
}

fn underscores(action: Underscores, request: &mut Request) -> Result<(), LocalReply> {
    match action {
        Underscores::Allow => Ok(()),
        Underscores::Reject if request.head.headers.iter().any(|(name, _)| name.contains(&b'_')) => {
            Err(LocalReply::protocol_error(400, "http1.unexpected_underscore"))
        }
        Underscores::Reject => Ok(()),
        Underscores::Drop => {
            request.head.headers.remove_if(|name, _, _| name.contains(&b'_'));
            Ok(())
        }
    }
}

fn strip_host(hcm: &Hcm, origin: &Origin, request: &mut Request) {
    let authority = request.head.authority();
    let (host, port) = split_port(authority);
    let listener_port = origin.facts.local.port();
    let drop_port = match (hcm.strip_port, port) {
        (StripPort::Never, _) | (_, None) => false,
        (StripPort::Any, Some(_)) => true,
        (StripPort::Matching, Some(port)) => std::str::from_utf8(port).ok().and_then(|text| text.parse().ok()) == Some(listener_port),
    };
    let drop_dot = hcm.strip_trailing_host_dot && host.last() == Some(&b'.');
    if !drop_port && !drop_dot {
        return;
    }
    let mut changed = host.strip_suffix(b".").filter(|_| drop_dot).unwrap_or(host).to_vec();
    if let (Some(port), false) = (port, drop_port) {
        changed.push(b':');
        changed.extend_from_slice(port);
    }
    request.head.set_authority(&changed);
}

fn normalise_path(hcm: &Hcm, request: &mut Request) -> Result<(), LocalReply> {
    let mut out = Vec::new();
    match hcm.path.apply(request.head.path(), &mut out) {
        PathVerdict::Unchanged => Ok(()),
        PathVerdict::Changed => {
            request.head.set_path(&out);
            Ok(())
        }
        PathVerdict::Redirect => Err(answer::path_redirect(request, &out)),
        PathVerdict::Reject => Err(LocalReply::protocol_error(400, "path_normalization_failed")),
    }
}
