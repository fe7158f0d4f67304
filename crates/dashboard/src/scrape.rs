//! Fetching one sidecar's metrics.
//!
//! - Reads: `GET http://POD:15090/stats/prometheus`.
//! - Limits: [`TIMEOUT`] and [`BYTES_MAX`] per sidecar; what is beyond counts as not answered.

use std::{net::IpAddr, time::Duration};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use lateen_base::ports;
use tokio::net::TcpStream;

const TIMEOUT: Duration = Duration::from_millis(800);
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// The metrics as text, or `None` where the sidecar did not answer in time.
pub(crate) async fn fetch(ip: IpAddr) -> Option<String> {
    tokio::time::timeout(TIMEOUT, get(ip)).await.ok()?.ok()
}

async fn get(ip: IpAddr) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect((ip, ports::PROMETHEUS)).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let request = Request::builder()
        .uri("/stats/prometheus")
        .header(header::HOST, format!("{ip}:{}", ports::PROMETHEUS))
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let body = Limited::new(response.into_body(), BYTES_MAX).collect().await?.to_bytes();
    driver.abort();
    Ok(String::from_utf8_lossy(&body).into_owned())
}
