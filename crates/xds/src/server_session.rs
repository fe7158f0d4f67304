//! The server's half of one xDS stream, without I/O: requests and resource sets in, responses out.
//!
//! - Reads: `DeltaDiscoveryRequest`, `DiscoveryRequest`.
//! - Twin: `xds/src/client_session.rs`, the other end.
//! - Rule: order of a push is clusters, endpoints, listeners, routes, secrets. Listeners and routes wait until clusters and endpoints
//!   were answered (make before break); removed clusters and endpoints go last, and not while a listener or route stands refused,
//!   because the proxy then still uses the old ones.
//! - Rule: a changed cluster brings its endpoints again: the proxy warms the new one and waits for them.
//! - Rule: what was refused is not sent again until it changes. A type with an unanswered push gets no further push, so at most one
//!   push per type is under way and later changes merge.
//!
//! ```text
//! per type:   (none) ──first request──▶ asked ──response──▶ sent ──ACK──▶ synced ──change──▶ sent …
//!                                                             └──NACK──▶ refused ──change──▶ sent …
//! ```
//! - Limits: `TYPES_MAX` types, `NAMES_MAX` names per type, `OUTSTANDING_MAX` unanswered responses per type.
//! - Not here: the stream (`server.rs`), who may ask (`control`). The state-of-the-world protocol cannot separate additions from
//!   removals: where one change does both to clusters, the removed ones leave with the push there.

use crate::client_session::{DETAIL_BYTES_MAX, NAMES_MAX, TYPES_MAX, cut};
use crate::message::{Protocol, Request, Response};
use crate::types::{self, CLUSTER, ENDPOINT, LISTENER, ROUTE};
use lateen_envoy_api::Any;
use lateen_envoy_api::envoy::service::discovery::v3 as pb;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Unanswered responses remembered per type; only explicit requests add to them, a push waits for its answer.
pub const OUTSTANDING_MAX: usize = 64;

/// One resource to serve.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// Hash of the content: equal versions are equal resources.
    pub version: u64,
    /// The packed message.
    pub body: Any,
}

/// Everything one proxy is to have: by type URL, then by name. A type that is absent is not served at all; an empty map is served as "nothing".
pub type Sets = BTreeMap<String, BTreeMap<String, Resource>>;

/// What a request meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// A first or changed subscription.
    Subscribed,
    /// The last response is in force.
    Acked,
    /// The last response was refused; the text is the proxy's.
    Nacked(String),
    /// Answers a response that is no longer the last one; ignored.
    Stale,
    /// More types or names than the limits allow, or the wrong protocol; the stream should be closed with this text.
    Refused(String),
}

/// How one type of one proxy stands, for `proxy-status`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TypeStatus {
    /// Nonce of the last response; empty when none was sent.
    pub nonce_sent: String,
    /// Nonce of the last accepted response.
    pub nonce_acked: String,
    /// Version of the last response.
    pub version_sent: String,
    /// Version of the last accepted response.
    pub version_acked: String,
    /// Why the last answered response was refused.
    pub error: Option<String>,
    /// Resources the proxy was sent and not told to drop.
    pub resources: usize,
    /// Explicit names subscribed to.
    pub names: usize,
    /// Everything of this type is subscribed to.
    pub wildcard: bool,
}

#[derive(Default)]
struct TypeState {
    wildcard: bool,
    names: BTreeSet<String>,
    /// What the proxy has, by name: `None` = told that it does not exist.
    sent: BTreeMap<String, Option<String>>,
    /// A request asked for an answer, even an empty one.
    answer: bool,
    /// The proxy asked for something new, so the next response needs not wait for earlier ones.
    requested: bool,
    outstanding: VecDeque<(String, String)>,
    refused: bool,
    status: TypeStatus,
}

/// One stream's conversation.
pub struct ServerSession {
    protocol: Protocol,
    types: BTreeMap<String, TypeState>,
    nonces: u64,
    /// Told apart from those of other streams, so that a nonce of an earlier stream is seen as stale.
    nonce_prefix: String,
}

/// Changed and vanished names of one type.
#[derive(Default)]
struct Difference {
    changed: Vec<String>,
    removed: Vec<String>,
}

impl Difference {
    fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.removed.is_empty()
    }
}

impl ServerSession {
    /// A stream that has seen nothing. `nonce_prefix` makes this stream's nonces its own.
    #[must_use]
    pub fn new(protocol: Protocol, nonce_prefix: impl Into<String>) -> Self {
        Self { protocol, types: BTreeMap::new(), nonces: 0, nonce_prefix: nonce_prefix.into() }
    }

    /// Takes one request. Call [`push`](Self::push) afterwards: it may be due an answer.
    pub fn receive(&mut self, request: &Request) -> Received {
        let type_url = request.type_url();
        if !self.types.contains_key(type_url) && self.types.len() >= TYPES_MAX {
            return Received::Refused(format!("more than {TYPES_MAX} resource types on one stream; ask for fewer"));
        }
        let known = self.types.contains_key(type_url);
        let state = self.types.entry(type_url.to_owned()).or_default();
        let received = match (self.protocol, request) {
            (Protocol::Delta, Request::Delta(r)) => receive_delta(state, r, known),
            (Protocol::Sotw, Request::Sotw(r)) => receive_sotw(state, r, known),
            (Protocol::Delta, Request::Sotw(_)) | (Protocol::Sotw, Request::Delta(_)) => {
                Received::Refused("a request of the other xDS protocol than the stream's".to_owned())
            }
        };
        if state.names.len() > NAMES_MAX {
            return Received::Refused(format!("more than {NAMES_MAX} names of {type_url}; ask for fewer"));
        }
        // A client that asks for clusters again on a running stream warms them again, and waits for their endpoints.
        if known && type_url == CLUSTER && received == Received::Subscribed {
            self.resend_endpoints(None);
        }
        received
    }

    /// What to send now, in order, so that the proxy comes to have `sets`. Often nothing. `version` names this state.
    pub fn push(&mut self, sets: &Sets, version: &str) -> Vec<Response> {
        let mut responses = Vec::new();
        let mut urls: Vec<String> = self.types.keys().cloned().collect();
        urls.sort_by_key(|t| types::order(t));
        for url in &urls {
            if let Some(set) = sets.get(url) {
                self.push_type(url, set, version, &mut responses);
            }
        }
        if self.removals_may_go(sets) {
            for url in [CLUSTER, ENDPOINT] {
                if let Some(set) = sets.get(url) {
                    self.push_removals(url, set, version, &mut responses);
                }
            }
        }
        responses
    }

    /// How each type stands.
    #[must_use]
    pub fn status(&self) -> BTreeMap<String, TypeStatus> {
        self.types
            .iter()
            .map(|(url, state)| {
                let mut status = state.status.clone();
                status.resources = state.sent.values().flatten().count();
                status.names = state.names.len();
                status.wildcard = state.wildcard;
                (url.clone(), status)
            })
            .collect()
    }

    fn push_type(&mut self, url: &str, set: &BTreeMap<String, Resource>, version: &str, responses: &mut Vec<Response>) {
        let waits = self.waits_for_earlier(url);
        let Some(state) = self.types.get_mut(url) else { return };
        let mut difference = difference(state, set);
        if matches!(url, CLUSTER | ENDPOINT) && !state.requested && (self.protocol == Protocol::Delta || difference.changed.is_empty()) {
            difference.removed.clear();
        }
        let due = state.answer || !difference.is_empty();
        if !due {
            state.requested = false;
        }
        if !due || (!state.requested && (waits || !state.outstanding.is_empty())) {
            return;
        }
        let clusters: Vec<String> = if url == CLUSTER { difference.changed.clone() } else { Vec::new() };
        responses.push(self.respond(url, set, version, &difference));
        if !clusters.is_empty() {
            self.resend_endpoints(Some(&clusters));
        }
    }

    /// Listeners and routes wait for the answers to clusters and endpoints that were sent before them.
    fn waits_for_earlier(&self, url: &str) -> bool {
        types::order(url) > types::order(ENDPOINT)
            && [CLUSTER, ENDPOINT].iter().any(|t| self.types.get(*t).is_some_and(|s| !s.outstanding.is_empty()))
    }

    /// Whether nothing that may still refer to a removed cluster is waiting, unanswered or refused.
    fn removals_may_go(&self, sets: &Sets) -> bool {
        [CLUSTER, ENDPOINT, LISTENER, ROUTE].iter().all(|url| {
            let (Some(state), Some(set)) = (self.types.get(*url), sets.get(*url)) else { return true };
            let referrer = matches!(*url, LISTENER | ROUTE);
            state.outstanding.is_empty() && !(referrer && (state.refused || !difference(state, set).is_empty()))
        })
    }

    fn push_removals(&mut self, url: &str, set: &BTreeMap<String, Resource>, version: &str, responses: &mut Vec<Response>) {
        let Some(state) = self.types.get(url) else { return };
        let difference = difference(state, set);
        if !difference.removed.is_empty() && difference.changed.is_empty() {
            responses.push(self.respond(url, set, version, &difference));
        }
    }

    /// Forget that endpoints were sent, for all or for the named clusters: they go out again.
    fn resend_endpoints(&mut self, clusters: Option<&[String]>) {
        let Some(endpoints) = self.types.get_mut(ENDPOINT) else { return };
        match clusters {
            None => endpoints.sent.clear(),
            Some(names) => names.iter().for_each(|n| {
                endpoints.sent.remove(n);
            }),
        }
    }

    fn respond(&mut self, url: &str, set: &BTreeMap<String, Resource>, version: &str, difference: &Difference) -> Response {
        self.nonces += 1;
        let nonce = format!("{}-{}", self.nonce_prefix, self.nonces);
        let protocol = self.protocol;
        let state = self.types.entry(url.to_owned()).or_default();
        state.answer = false;
        state.requested = false;
        if state.outstanding.len() >= OUTSTANDING_MAX {
            state.outstanding.pop_front();
        }
        state.outstanding.push_back((nonce.clone(), version.to_owned()));
        state.status.nonce_sent.clone_from(&nonce);
        state.status.version_sent = version.to_owned();
        for name in &difference.removed {
            if state.names.contains(name) {
                state.sent.insert(name.clone(), None);
            } else {
                state.sent.remove(name);
            }
        }
        for name in &difference.changed {
            if let Some(resource) = set.get(name) {
                state.sent.insert(name.clone(), Some(version_text(resource.version)));
            }
        }
        match protocol {
            Protocol::Delta => Response::Delta(Box::new(pb::DeltaDiscoveryResponse {
                system_version_info: version.to_owned(),
                type_url: url.to_owned(),
                nonce,
                resources: difference.changed.iter().filter_map(|n| set.get(n).map(|r| delta_resource(n, r))).collect(),
                removed_resources: difference.removed.clone(),
                ..Default::default()
            })),
            Protocol::Sotw => Response::Sotw(Box::new(pb::DiscoveryResponse {
                version_info: version.to_owned(),
                type_url: url.to_owned(),
                nonce,
                resources: set.iter().filter(|(n, _)| wants(state, n)).map(|(_, r)| r.body.clone()).collect(),
                ..Default::default()
            })),
        }
    }
}

fn wants(state: &TypeState, name: &str) -> bool {
    state.wildcard || state.names.contains(name)
}

/// What the proxy lacks or has too much, of what it subscribed to.
fn difference(state: &TypeState, set: &BTreeMap<String, Resource>) -> Difference {
    let mut difference = Difference::default();
    let mut look = |name: &String| match set.get(name) {
        Some(resource) => {
            if state.sent.get(name).and_then(Option::as_deref) != Some(version_text(resource.version).as_str()) {
                difference.changed.push(name.clone());
            }
        }
        None => {
            if state.sent.get(name) != Some(&None) {
                difference.removed.push(name.clone());
            }
        }
    };
    if state.wildcard {
        set.keys().for_each(&mut look);
        state.names.iter().filter(|n| !set.contains_key(*n)).for_each(&mut look);
        let gone = state.sent.iter().filter(|(n, v)| v.is_some() && !set.contains_key(*n) && !state.names.contains(*n));
        difference.removed.extend(gone.map(|(n, _)| n.clone()));
    } else {
        state.names.iter().for_each(&mut look);
    }
    difference
}

fn receive_delta(state: &mut TypeState, request: &pb::DeltaDiscoveryRequest, known: bool) -> Received {
    let subscribe = &request.resource_names_subscribe;
    let unsubscribe = &request.resource_names_unsubscribe;
    if !known {
        for (name, version) in &request.initial_resource_versions {
            state.sent.insert(name.clone(), Some(version.clone()));
        }
        state.wildcard = subscribe.is_empty() && types::wildcard_allowed(&request.type_url);
        state.answer = state.sent.is_empty();
        state.requested = true;
    }
    for name in subscribe {
        if name == "*" {
            state.wildcard = true;
        } else {
            // Asking again for a name means its state was lost: it is sent again. A first request says by versions what is held.
            if known {
                state.sent.remove(name);
            }
            state.names.insert(name.clone());
        }
    }
    for name in unsubscribe {
        if name == "*" {
            state.wildcard = false;
        }
        state.names.remove(name);
        if !state.wildcard {
            state.sent.remove(name);
        }
    }
    if !state.wildcard {
        let names = &state.names;
        state.sent.retain(|n, _| names.contains(n));
    }
    state.requested |= !subscribe.is_empty();
    if !request.response_nonce.is_empty() && known {
        return answered(state, &request.response_nonce, request.error_detail.as_ref().map(|e| e.message.as_str()));
    }
    Received::Subscribed
}

fn receive_sotw(state: &mut TypeState, request: &pb::DiscoveryRequest, known: bool) -> Received {
    let first = !known || request.response_nonce.is_empty();
    if !first && request.response_nonce != state.status.nonce_sent {
        return Received::Stale;
    }
    let wildcard = request.resource_names.iter().any(|n| n == "*")
        || (request.resource_names.is_empty() && types::wildcard_allowed(&request.type_url) && (first || state.wildcard));
    let names: BTreeSet<String> = request.resource_names.iter().filter(|n| *n != "*").cloned().collect();
    let grew = wildcard && !state.wildcard || names.difference(&state.names).next().is_some();
    state.wildcard = wildcard;
    state.names = names;
    if !state.wildcard {
        let names = &state.names;
        state.sent.retain(|n, _| names.contains(n));
    }
    if first {
        state.sent.clear();
        state.answer = wildcard || !state.names.is_empty();
        state.requested = true;
        return Received::Subscribed;
    }
    if grew {
        state.answer = true;
        state.requested = true;
    }
    answered(state, &request.response_nonce, request.error_detail.as_ref().map(|e| e.message.as_str()))
}

/// Settles the response that `nonce` names and those before it.
fn answered(state: &mut TypeState, nonce: &str, error: Option<&str>) -> Received {
    let Some(at) = state.outstanding.iter().position(|(n, _)| n == nonce) else { return Received::Stale };
    let settled = state.outstanding.drain(..=at).next_back();
    if let Some(error) = error {
        let error = cut(error, DETAIL_BYTES_MAX).to_owned();
        state.refused = true;
        state.status.error = Some(error.clone());
        return Received::Nacked(error);
    }
    if let Some((nonce, version)) = settled {
        state.status.nonce_acked = nonce;
        state.status.version_acked = version;
    }
    state.refused = false;
    state.status.error = None;
    Received::Acked
}

fn version_text(version: u64) -> String {
    format!("{version:016x}")
}

fn delta_resource(name: &str, resource: &Resource) -> pb::Resource {
    pb::Resource { name: name.to_owned(), version: version_text(resource.version), resource: Some(resource.body.clone()), ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lateen_envoy_api::google::rpc::Status;
    use std::collections::HashMap;

    fn set(names: &[(&str, u64)]) -> BTreeMap<String, Resource> {
        names.iter().map(|(n, v)| ((*n).to_owned(), Resource { version: *v, body: Any { type_url: CLUSTER.into(), value: n.as_bytes().to_vec().into() } })).collect()
    }

    fn sets(clusters: &[(&str, u64)], endpoints: &[(&str, u64)], routes: &[(&str, u64)]) -> Sets {
        Sets::from([(CLUSTER.into(), set(clusters)), (ENDPOINT.into(), set(endpoints)), (ROUTE.into(), set(routes))])
    }

    fn subscribe(url: &str, names: &[&str]) -> Request {
        pb::DeltaDiscoveryRequest { type_url: url.into(), resource_names_subscribe: names.iter().map(|n| (*n).into()).collect(), ..Default::default() }.into()
    }

    fn answer(response: &Response, error: Option<&str>) -> Request {
        let error_detail = error.map(|e| Status { code: 3, message: e.into(), details: vec![] });
        pb::DeltaDiscoveryRequest { type_url: response.type_url().into(), response_nonce: response.nonce().into(), error_detail, ..Default::default() }.into()
    }

    /// Type, names sent, names removed of each response.
    fn shape(responses: &[Response]) -> Vec<(&str, Vec<&str>, Vec<&str>)> {
        responses
            .iter()
            .map(|r| match r {
                Response::Delta(r) => (
                    types::short(&r.type_url),
                    r.resources.iter().map(|r| r.name.as_str()).collect(),
                    r.removed_resources.iter().map(String::as_str).collect(),
                ),
                Response::Sotw(_) => panic!("delta expected"),
            })
            .collect()
    }

    /// A proxy that has all of `state` and has said so.
    fn synced(state: &Sets) -> ServerSession {
        let mut session = ServerSession::new(Protocol::Delta, "n");
        session.receive(&subscribe(CLUSTER, &[]));
        for url in [ENDPOINT, ROUTE] {
            let names: Vec<&str> = state[url].keys().map(String::as_str).collect();
            session.receive(&subscribe(url, &names));
        }
        loop {
            let responses = session.push(state, "1");
            if responses.is_empty() {
                return session;
            }
            responses.iter().for_each(|r| {
                assert_eq!(session.receive(&answer(r, None)), Received::Acked);
            });
        }
    }

    #[test]
    fn an_empty_first_subscription_to_clusters_means_all() {
        let mut session = ServerSession::new(Protocol::Delta, "n");
        session.receive(&subscribe(CLUSTER, &[]));
        assert_eq!(shape(&session.push(&sets(&[("a", 1), ("b", 1)], &[], &[]), "1")), [("CDS", vec!["a", "b"], vec![])]);
    }

    #[test]
    fn an_empty_set_is_still_answered_once() {
        let mut session = ServerSession::new(Protocol::Delta, "n");
        session.receive(&subscribe(CLUSTER, &[]));
        assert_eq!(session.push(&sets(&[], &[], &[]), "1").len(), 1);
        assert!(session.push(&sets(&[], &[], &[]), "1").is_empty());
    }

    #[test]
    fn a_name_that_does_not_exist_is_answered_as_removed_and_sent_when_it_comes() {
        let mut session = ServerSession::new(Protocol::Delta, "n");
        session.receive(&subscribe(ROUTE, &["r"]));
        let responses = session.push(&sets(&[], &[], &[]), "1");
        assert_eq!(shape(&responses), [("RDS", vec![], vec!["r"])]);
        session.receive(&answer(&responses[0], None));
        assert_eq!(shape(&session.push(&sets(&[], &[], &[("r", 1)]), "2")), [("RDS", vec!["r"], vec![])]);
    }

    #[test]
    fn only_differences_are_sent() {
        let mut session = synced(&sets(&[], &[], &[("a", 1), ("b", 1)]));
        assert_eq!(shape(&session.push(&sets(&[], &[], &[("a", 1), ("b", 2)]), "2")), [("RDS", vec!["b"], vec![])]);
    }

    #[test]
    fn what_was_refused_is_not_sent_again_until_it_changes() {
        let mut session = synced(&sets(&[], &[], &[("a", 1)]));
        let bad = sets(&[], &[], &[("a", 2)]);
        let responses = session.push(&bad, "2");
        assert_eq!(session.receive(&answer(&responses[0], Some("no such cluster"))), Received::Nacked("no such cluster".into()));
        assert!(session.push(&bad, "2").is_empty());
        assert_eq!(session.status()[ROUTE].error.as_deref(), Some("no such cluster"));
        let responses = session.push(&sets(&[], &[], &[("a", 3)]), "3");
        assert_eq!(session.receive(&answer(&responses[0], None)), Received::Acked);
        assert_eq!(session.status()[ROUTE].error, None);
    }

    #[test]
    fn an_unknown_nonce_is_stale() {
        let mut session = synced(&sets(&[("a", 1)], &[], &[]));
        let request = pb::DeltaDiscoveryRequest { type_url: CLUSTER.into(), response_nonce: "other".into(), ..Default::default() };
        assert_eq!(session.receive(&request.into()), Received::Stale);
    }

    #[test]
    fn routes_wait_until_new_clusters_and_their_endpoints_are_in_force() {
        let mut session = synced(&sets(&[("a", 1)], &[("a", 1)], &[("r", 1)]));
        let next = sets(&[("a", 1), ("b", 1)], &[("a", 1), ("b", 1)], &[("r", 2)]);
        let clusters = session.push(&next, "2");
        assert_eq!(shape(&clusters), [("CDS", vec!["b"], vec![])]);
        session.receive(&subscribe(ENDPOINT, &["b"]));
        let endpoints = session.push(&next, "2");
        assert_eq!(shape(&endpoints), [("EDS", vec!["b"], vec![])]);
        session.receive(&answer(&clusters[0], None));
        assert!(session.push(&next, "2").is_empty());
        session.receive(&answer(&endpoints[0], None));
        assert_eq!(shape(&session.push(&next, "2")), [("RDS", vec!["r"], vec![])]);
    }

    #[test]
    fn a_removed_cluster_goes_after_the_route_that_used_it() {
        let mut session = synced(&sets(&[("a", 1), ("b", 1)], &[], &[("r", 1)]));
        let next = sets(&[("a", 1)], &[], &[("r", 2)]);
        let routes = session.push(&next, "2");
        assert_eq!(shape(&routes), [("RDS", vec!["r"], vec![])]);
        session.receive(&answer(&routes[0], None));
        assert_eq!(shape(&session.push(&next, "2")), [("CDS", vec![], vec!["b"])]);
    }

    #[test]
    fn a_removed_cluster_stays_while_the_new_route_stands_refused() {
        let mut session = synced(&sets(&[("a", 1), ("b", 1)], &[], &[("r", 1)]));
        let next = sets(&[("a", 1)], &[], &[("r", 2)]);
        let routes = session.push(&next, "2");
        session.receive(&answer(&routes[0], Some("bad regex")));
        assert!(session.push(&next, "2").is_empty());
    }

    #[test]
    fn a_changed_cluster_brings_its_endpoints_again() {
        let mut session = synced(&sets(&[("a", 1), ("b", 1)], &[("a", 1), ("b", 1)], &[]));
        let next = sets(&[("a", 2), ("b", 1)], &[("a", 1), ("b", 1)], &[]);
        assert_eq!(shape(&session.push(&next, "2")), [("CDS", vec!["a"], vec![]), ("EDS", vec!["a"], vec![])]);
    }

    #[test]
    fn asking_for_clusters_again_brings_all_endpoints_again() {
        let state = sets(&[("a", 1)], &[("a", 1)], &[]);
        let mut session = synced(&state);
        session.receive(&subscribe(CLUSTER, &["*"]));
        assert_eq!(shape(&session.push(&state, "1")), [("EDS", vec!["a"], vec![])]);
    }

    #[test]
    fn changes_merge_while_an_answer_is_missing() {
        let mut session = synced(&sets(&[], &[], &[("r", 1)]));
        let first = session.push(&sets(&[], &[], &[("r", 2)]), "2");
        assert!(session.push(&sets(&[], &[], &[("r", 3)]), "3").is_empty());
        session.receive(&answer(&first[0], None));
        assert_eq!(session.push(&sets(&[], &[], &[("r", 4)]), "4").len(), 1);
    }

    #[test]
    fn a_reconnect_with_versions_brings_differences_and_removals_only() {
        let state = sets(&[("a", 1), ("b", 2)], &[], &[]);
        let mut session = ServerSession::new(Protocol::Delta, "n");
        let held = HashMap::from([("a".to_owned(), version_text(1)), ("b".to_owned(), version_text(1)), ("gone".to_owned(), version_text(1))]);
        session.receive(&pb::DeltaDiscoveryRequest { type_url: CLUSTER.into(), initial_resource_versions: held, ..Default::default() }.into());
        assert_eq!(shape(&session.push(&state, "1")), [("CDS", vec!["b"], vec!["gone"])]);
    }

    #[test]
    fn a_reconnect_that_lacks_nothing_is_sent_nothing() {
        let mut session = ServerSession::new(Protocol::Delta, "n");
        let held = HashMap::from([("a".to_owned(), version_text(1))]);
        session.receive(&pb::DeltaDiscoveryRequest { type_url: CLUSTER.into(), initial_resource_versions: held, ..Default::default() }.into());
        assert!(session.push(&sets(&[("a", 1)], &[], &[]), "1").is_empty());
    }

    #[test]
    fn unsubscribing_is_not_answered() {
        let state = sets(&[], &[], &[("r", 1)]);
        let mut session = synced(&state);
        session.receive(&pb::DeltaDiscoveryRequest { type_url: ROUTE.into(), resource_names_unsubscribe: vec!["r".into()], ..Default::default() }.into());
        assert!(session.push(&sets(&[], &[], &[("r", 2)]), "2").is_empty());
    }

    #[test]
    fn a_type_that_is_not_served_gets_no_answer() {
        let mut session = ServerSession::new(Protocol::Delta, "n");
        session.receive(&subscribe("type.googleapis.com/x.Y", &[]));
        assert!(session.push(&sets(&[], &[], &[]), "1").is_empty());
    }

    fn sotw(url: &str, nonce: &str, names: &[&str]) -> Request {
        let resource_names = names.iter().map(|n| (*n).to_owned()).collect();
        pb::DiscoveryRequest { type_url: url.into(), response_nonce: nonce.into(), resource_names, ..Default::default() }.into()
    }

    #[test]
    fn state_of_the_world_sends_the_whole_set_on_a_change() {
        let mut session = ServerSession::new(Protocol::Sotw, "n");
        session.receive(&sotw(CLUSTER, "", &[]));
        let responses = session.push(&sets(&[("a", 1), ("b", 1)], &[], &[]), "1");
        assert_eq!(responses[0].resources_len(), 2);
        assert_eq!(session.receive(&sotw(CLUSTER, responses[0].nonce(), &[])), Received::Acked);
        assert!(session.push(&sets(&[("a", 1), ("b", 1)], &[], &[]), "1").is_empty());
        assert_eq!(session.push(&sets(&[("a", 1)], &[], &[]), "2")[0].resources_len(), 1);
    }

    #[test]
    fn state_of_the_world_answers_a_grown_subscription_and_ignores_an_old_nonce() {
        let state = sets(&[], &[("a", 1), ("b", 1)], &[]);
        let mut session = ServerSession::new(Protocol::Sotw, "n");
        session.receive(&sotw(ENDPOINT, "", &["a"]));
        let first = session.push(&state, "1");
        assert_eq!(first[0].resources_len(), 1);
        session.receive(&sotw(ENDPOINT, first[0].nonce(), &["a", "b"]));
        assert_eq!(session.push(&state, "1")[0].resources_len(), 2);
        assert_eq!(session.receive(&sotw(ENDPOINT, first[0].nonce(), &["a"])), Received::Stale);
    }

    #[test]
    fn in_state_of_the_world_too_a_removed_cluster_goes_after_the_route_that_used_it() {
        let mut session = ServerSession::new(Protocol::Sotw, "n");
        session.receive(&sotw(CLUSTER, "", &[]));
        session.receive(&sotw(ROUTE, "", &["r"]));
        let first = session.push(&sets(&[("a", 1), ("b", 1)], &[], &[("r", 1)]), "1");
        session.receive(&sotw(CLUSTER, first[0].nonce(), &[]));
        session.receive(&sotw(ROUTE, first[1].nonce(), &["r"]));
        let next = sets(&[("a", 1)], &[], &[("r", 2)]);
        let routes = session.push(&next, "2");
        assert_eq!(routes.iter().map(|r| types::short(r.type_url())).collect::<Vec<_>>(), ["RDS"]);
        session.receive(&sotw(ROUTE, routes[0].nonce(), &["r"]));
        let clusters = session.push(&next, "2");
        assert_eq!(clusters.iter().map(|r| (types::short(r.type_url()), r.resources_len())).collect::<Vec<_>>(), [("CDS", 1)]);
    }

    #[test]
    fn a_stream_has_a_maximum_of_types() {
        let mut session = ServerSession::new(Protocol::Delta, "n");
        for i in 0..TYPES_MAX {
            assert_eq!(session.receive(&subscribe(&format!("t{i}"), &[])), Received::Subscribed);
        }
        assert!(matches!(session.receive(&subscribe("one more", &[])), Received::Refused(_)));
    }
}
