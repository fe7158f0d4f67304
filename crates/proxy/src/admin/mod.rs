//! The admin interface: Envoy's endpoints on loopback.
//!
//! - Reads: the server's state and the workers' counters.
//! - Rule: paths, parameters and shapes are Envoy's, so that `istioctl proxy-config`, scripts and probes work unchanged.
//! - Rule: what changes something needs POST, as in Envoy.
//! - Limits: one request at a time per connection; bodies of requests are ignored.
//! - Not here: Istio's merged metrics on 15020 (`agent`).

mod certs;
mod clusters;
mod config_dump;
mod listeners;
pub mod logging;
mod ready;
mod server_info;
pub mod stats;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::server::Server;
use crate::transport::raw;

/// One answer.
pub struct Answer {
    status: StatusCode,
    content_type: &'static str,
    body: Bytes,
}

impl Answer {
    /// 200 with text.
    pub fn text(body: impl Into<Bytes>) -> Self {
        Answer { status: StatusCode::OK, content_type: "text/plain; charset=UTF-8", body: body.into() }
    }

    /// 200 with JSON, indented by one space as Envoy prints it.
    pub fn json(value: &serde_json::Value) -> Self {
        let mut body = serde_json::to_vec_pretty(value).unwrap_or_default();
        body.push(b'\n');
        Answer { status: StatusCode::OK, content_type: "application/json", body: body.into() }
    }

    /// Another status with text.
    pub fn status(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Answer { status, content_type: "text/plain; charset=UTF-8", body: body.into() }
    }
}

/// The parameters behind the `?`, decoded.
pub struct Query(Vec<(String, String)>);

impl Query {
    fn of(text: Option<&str>) -> Self {
        let pairs = text.unwrap_or_default().split('&').filter(|p| !p.is_empty());
        Query(pairs.map(|pair| pair.split_once('=').map_or((decode(pair), String::new()), |(k, v)| (decode(k), decode(v)))).collect())
    }

    /// The value of a parameter; empty for one without a value.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    /// Whether the parameter is there at all.
    pub fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// The first pair.
    pub fn first(&self) -> Option<(&str, &str)> {
        self.0.first().map(|(k, v)| (k.as_str(), v.as_str()))
    }
}

/// Percent-decoding; what does not decode stays.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|h| std::str::from_utf8(h).ok()).and_then(|h| u8::from_str_radix(h, 16).ok());
        match (first, hex) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = after;
            }
            (byte, _) => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Starts the interface, if the bootstrap asks for one; tells its address.
///
/// # Errors
/// When the address cannot be listened on.
pub fn start(server: &Rc<Server>) -> std::io::Result<Option<SocketAddr>> {
    let Some(address) = server.bootstrap.admin else { return Ok(None) };
    let listener = TcpListener::from_std(raw::listen(address, &raw::ListenOptions::default())?)?;
    let bound = listener.local_addr()?;
    tokio::task::spawn_local(accept(Rc::clone(server), listener));
    Ok(Some(bound))
}

async fn accept(server: Rc<Server>, listener: TcpListener) {
    loop {
        let Ok((tcp, _)) = listener.accept().await else {
            tokio::time::sleep(crate::listener::accept::EXHAUSTED_PAUSE).await;
            continue;
        };
        let server = Rc::clone(&server);
        tokio::task::spawn_local(async move {
            let service = hyper::service::service_fn(move |request| {
                let server = Rc::clone(&server);
                async move { Ok::<_, Infallible>(answer(&server, &request).await) }
            });
            // An error means the client went away or spoke no HTTP; there is nobody left to tell.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tcp), service).await;
        });
    }
}

async fn answer(server: &Rc<Server>, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let answer = route(server, request.method(), request.uri().path(), &Query::of(request.uri().query())).await;
    let mut response = Response::new(Full::new(answer.body));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert("content-type", http::HeaderValue::from_static(answer.content_type));
    headers.insert("cache-control", http::HeaderValue::from_static("no-cache, max-age=0"));
    headers.insert("x-content-type-options", http::HeaderValue::from_static("nosniff"));
    headers.insert("server", http::HeaderValue::from_static("envoy"));
    response
}

/// Endpoints that change something.
const CHANGING: &[&str] = &["/quitquitquit", "/drain_listeners", "/logging", "/reset_counters", "/healthcheck/fail", "/healthcheck/ok"];

async fn route(server: &Rc<Server>, method: &Method, path: &str, query: &Query) -> Answer {
    if CHANGING.contains(&path) && method != Method::POST {
        return Answer::status(StatusCode::METHOD_NOT_ALLOWED, format!("Method {method} not allowed, POST required."));
    }
    match path {
        "/" | "/help" => Answer::text(HELP),
        "/ready" => ready::answer(server),
        "/server_info" => server_info::answer(server),
        "/config_dump" => config_dump::answer(server, query),
        "/clusters" => clusters::answer(server, query),
        "/listeners" => listeners::answer(server, query),
        "/stats" => stats::answer(server, query).await,
        "/stats/prometheus" => stats::prometheus(server).await,
        "/certs" => certs::answer(server),
        "/logging" => logging::answer(query),
        "/memory" => server_info::memory(),
        "/quitquitquit" => {
            server.quit.send_replace(true);
            Answer::text("OK\n")
        }
        "/drain_listeners" => {
            server.drain_listeners();
            Answer::text("OK\n")
        }
        "/reset_counters" => Answer::status(StatusCode::NOT_IMPLEMENTED, "counters are monotonic here; compare two readings instead\n"),
        "/healthcheck/fail" | "/healthcheck/ok" => ready::force(server, path == "/healthcheck/ok"),
        _ => Answer::status(StatusCode::NOT_FOUND, "invalid path. admin commands are:\n".to_owned() + HELP),
    }
}

const HELP: &str = "admin commands are:
  /certs: print certs on machine
  /clusters: upstream cluster status
  /config_dump: dump current configs (resource, mask, name_regex, include_eds)
  /drain_listeners (POST): drain listeners
  /healthcheck/fail (POST): cause the server to fail health checks
  /healthcheck/ok (POST): cause the server to pass health checks
  /help: print out list of admin commands
  /listeners: print listener info
  /logging (POST): query/change logging levels
  /memory: print current allocation/heap usage
  /quitquitquit (POST): exit the server
  /ready: print server state, return 200 if LIVE, otherwise return 503
  /server_info: print server version/status information
  /stats: print server stats (filter, usedonly, format)
  /stats/prometheus: print server stats in prometheus format
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let query = Query::of(Some("filter=a%7Cb&usedonly&x=1+2"));
        assert_eq!(query.value("filter"), Some("a|b"));
        assert!(query.has("usedonly") && !query.has("y"));
        assert_eq!(query.value("x"), Some("1 2"));
    }

    #[test]
    fn a_broken_escape_stays_as_it_is() {
        assert_eq!(decode("50%"), "50%");
        assert_eq!(decode("%zz"), "%zz");
    }
}
