//! Small HTTP requests on the pod's own loopback: probes, metrics, the proxy's admin interface.
//!
//! - Reads: HTTP/1.1 responses.
//! - Limits: the caller's deadline; `BODY_BYTES_MAX` of body, more is an error.

use crate::upstream;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A large application's metrics page.
pub const BODY_BYTES_MAX: usize = 64 << 20;

/// What to ask.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Where.
    pub address: SocketAddr,
    /// Source address; `None`: the system's choice.
    pub source: Option<IpAddr>,
    /// Whether the socket carries the proxy's mark.
    pub mark: bool,
    /// Speak TLS without verifying, as Kubernetes' probes do.
    pub tls: bool,
    /// Method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// Further headers; `host` replaces the default one.
    pub headers: Vec<(String, String)>,
    /// Deadline of the whole exchange.
    pub deadline: Duration,
}

impl Ask {
    /// GET `path` from `address`.
    #[must_use]
    pub fn get(address: SocketAddr, path: &str, mark: bool, deadline: Duration) -> Self {
        Self { address, source: None, mark, tls: false, method: Method::GET, path: path.to_owned(), headers: Vec::new(), deadline }
    }
}

/// Status, content type and body of an answer.
pub struct Answer {
    /// Status code.
    pub status: StatusCode,
    /// `content-type`, if any.
    pub content_type: Option<String>,
    /// Body.
    pub body: Bytes,
}

/// Asks and reads the answer.
///
/// # Errors
/// A sentence that says what failed.
pub async fn fetch(ask: &Ask) -> Result<Answer, String> {
    tokio::time::timeout(ask.deadline, exchange(ask)).await.map_err(|_| format!("{}{} did not answer within {:?}", ask.address, ask.path, ask.deadline))?
}

async fn exchange(ask: &Ask) -> Result<Answer, String> {
    let about = |e: &dyn std::fmt::Display| format!("{}{}: {e}", ask.address, ask.path);
    let stream = upstream::connect(ask.address, ask.source, ask.mark).await.map_err(|e| about(&e))?;
    let mut sender = if ask.tls {
        let stream = crate::upstream::unverified_tls(stream).await.map_err(|e| about(&e))?;
        handshake(TokioIo::new(stream)).await.map_err(|e| about(&e))?
    } else {
        handshake(TokioIo::new(stream)).await.map_err(|e| about(&e))?
    };
    let mut request = Request::builder().method(ask.method.clone()).uri(&ask.path);
    if !ask.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case("host")) {
        request = request.header("host", ask.address.to_string());
    }
    for (name, value) in &ask.headers {
        request = request.header(name, value);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|e| about(&e))?;
    let response = sender.send_request(request).await.map_err(|e| about(&e))?;
    let (head, body) = response.into_parts();
    let content_type = head.headers.get("content-type").and_then(|v| v.to_str().ok()).map(str::to_owned);
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await.map_err(|e| about(&e))?.to_bytes();
    Ok(Answer { status: head.status, content_type, body })
}

async fn handshake<T>(io: TokioIo<T>) -> Result<hyper::client::conn::http1::SendRequest<Empty<Bytes>>, hyper::Error>
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = hyper::client::conn::http1::handshake(io).await?;
    tokio::spawn(async move {
        // Its errors reach the caller through `sender`.
        let _ = connection.await;
    });
    Ok(sender)
}
