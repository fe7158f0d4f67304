//! `http-echo`: answers every request with one text.
//!
//! - Reads: `-text`, `-listen` (default `:5678`), `-status-code` (default 200), `-version`.
//! - Rule: the text ends with a line end; one log line per request on standard output, in the original's form.
//! - Limits: methods and paths do not matter, except `/health`, which answers `{"status":"ok"}` as the original does.

use std::{process::ExitCode, sync::Arc, time::Instant};

use axum::{Router, extract::State, response::IntoResponse};
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};

use crate::{
    Environment,
    cli_args::{Takes, parse},
    server::{Peer, listen_and_serve},
    net::log_time,
};

struct Echo {
    text: String,
    status: StatusCode,
}

/// Entry point of `lateen app http-echo`.
pub(crate) fn run(args: &[String], env: &Environment) -> ExitCode {
    let known = [("text", Takes::Value), ("listen", Takes::Value), ("status-code", Takes::Value), ("version", Takes::Nothing)];
    let parsed = match parse(args, &known) {
        Ok(parsed) => parsed,
        Err(error) => {
            eprintln!("{error}\nUsage of http-echo:\n  -listen string\n  -status-code int\n  -text string\n  -version");
            return ExitCode::from(2);
        }
    };
    if parsed.is_set("version") {
        eprintln!("http-echo v1.0.0 (lateen)");
        return ExitCode::SUCCESS;
    }
    // The original takes the text from ECHO_TEXT when there is no flag.
    let text = parsed.last("text").or_else(|| env.get("ECHO_TEXT").map(String::as_str)).unwrap_or_default();
    if text.is_empty() {
        eprintln!("Missing -text option!");
        return ExitCode::from(127);
    }
    if let Some(extra) = parsed.operands.first() {
        eprintln!("Too many arguments: {extra}");
        return ExitCode::from(127);
    }
    let status = parsed.last("status-code").unwrap_or("200");
    let Some(status) = status.parse().ok().and_then(|code: u16| StatusCode::from_u16(code).ok()) else {
        eprintln!("invalid value \"{status}\" for flag -status-code");
        return ExitCode::from(2);
    };
    let echo = Arc::new(Echo { text: format!("{text}\n"), status });
    let router = Router::new().fallback(answer).with_state(echo);
    listen_and_serve("http-echo", parsed.last("listen").unwrap_or(":5678"), router)
}

async fn answer(State(echo): State<Arc<Echo>>, request: Request<axum::body::Body>) -> impl IntoResponse {
    let started = Instant::now();
    let mut headers = HeaderMap::new();
    headers.insert("x-app-name", HeaderValue::from_static("http-echo"));
    headers.insert("x-app-version", HeaderValue::from_static("1.0.0"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    let (status, body) = match request.uri().path() {
        "/health" => (StatusCode::OK, "{\"status\":\"ok\"}\n".to_owned()),
        _ => (echo.status, echo.text.clone()),
    };
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| request.uri().host()).unwrap_or("-");
    let agent = request.headers().get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or("-");
    let peer = request.extensions().get::<Peer>().map_or_else(|| "-".to_owned(), |peer| peer.0.to_string());
    println!(
        "{} {host} {peer} \"{} {} {:?}\" {} {} \"{agent}\" {:?}",
        log_time(std::time::SystemTime::now()),
        request.method(),
        request.uri().path_and_query().map_or("/", |path| path.as_str()),
        request.version(),
        status.as_u16(),
        body.len(),
        started.elapsed(),
    );
    (status, headers, body)
}
