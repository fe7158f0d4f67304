//! `fortio server`: an HTTP echo whose answer the query decides.
//!
//! - Reads: `-http-port` (default 8080); the queries `status`, `delay`, `size` of `/echo` and of any other path.
//! - Rule: without a query the request's body comes back.
//! - Limits: `size` up to [`SIZE_MAX`], `delay` up to [`DELAY_MAX`], as in the original.

use std::{process::ExitCode, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    response::{IntoResponse, Response},
};
use http::{Request, StatusCode};

use crate::{
    cli_args::{Parsed, duration},
    server::listen_and_serve,
};

const SIZE_MAX: usize = 256 * 1024;
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
const DELAY_MAX: Duration = Duration::from_millis(1500);

/// Serves until stopped.
pub(super) fn run(parsed: &Parsed) -> ExitCode {
    let port = parsed.last("http-port").unwrap_or("8080");
    let listen = if port.contains(':') { port.to_owned() } else { format!(":{port}") };
    listen_and_serve("fortio", &listen, Router::new().fallback(answer))
}

async fn answer(request: Request<Body>) -> Response {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let find = |name: &str| query.split('&').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name).map(|(_, value)| value));
    if let Some(wait) = find("delay").and_then(|text| duration(text).ok()) {
        tokio::time::sleep(wait.min(DELAY_MAX)).await;
    }
    let status = find("status").and_then(|code| code.split(':').next()?.parse().ok()).and_then(|code: u16| StatusCode::from_u16(code).ok());
    let size = find("size").and_then(|size| size.parse::<usize>().ok());
    let body = match size {
        Some(size) => vec![b'x'; size.min(SIZE_MAX)].into(),
        None => to_bytes(request.into_body(), BODY_BYTES_MAX).await.unwrap_or_default(),
    };
    (status.unwrap_or(StatusCode::OK), body).into_response()
}
