//! `fake-service`: answers with JSON about itself and about the upstreams it called to make the answer.
//!
//! - Reads: the original's environment variables, listed in [`Settings::from_env`]; an unusable value is an error at start.
//! - Rule: tracing and `x-request-id` headers of the request are forwarded to every upstream; a failed upstream makes the answer 500.
//! - Limits: HTTP upstreams only; bodies of upstreams up to [`BODY_BYTES_MAX`].

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use axum::{
    Router,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use serde_json::{Map, Value, json};

use crate::{
    Environment, cli_args,
    net::{go_duration, iso_time, own_address},
    server::listen_and_serve,
};

const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Headers passed on to upstreams: what Istio asks applications to forward, and `end-user` of its samples.
const FORWARDED: &[&str] = &[
    "x-request-id", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "x-b3-flags", "b3", "traceparent", "tracestate",
    "x-ot-span-context", "x-datadog-trace-id", "x-datadog-parent-id", "x-datadog-sampling-priority", "sw8", "end-user", "user-agent", "cookie",
    "authorization",
];

struct Settings {
    name: String,
    message: String,
    listen: String,
    upstreams: Vec<String>,
    workers: usize,
    keep_alive: bool,
    timeout: Duration,
    /// Answer times at the 50th, 90th and 99th percentile.
    timing: [Duration; 3],
    /// Part of a time by which it may vary, 0 to 1.
    variance: f64,
    /// Part of requests that fail, 0 to 1.
    error_rate: f64,
    error_is_delay: bool,
    error_code: StatusCode,
    error_delay: Duration,
    health_code: StatusCode,
    ready_code: StatusCode,
    ready_delay: Duration,
}

impl Settings {
    fn from_env(env: &Environment) -> Result<Self, String> {
        let text = |name: &str, default: &str| env.get(name).filter(|value| !value.is_empty()).cloned().unwrap_or_else(|| default.to_owned());
        let time = |name: &str, default: &str| cli_args::duration(&text(name, default)).map_err(|error| format!("{name}: {error}"));
        let number = |name: &str, default: &str| {
            let value = text(name, default);
            value.parse::<f64>().map_err(|_| format!("{name}: `{value}` is not a number"))
        };
        let code = |name: &str, default: &str| {
            let value = text(name, default);
            value.parse().ok().and_then(|code: u16| StatusCode::from_u16(code).ok()).ok_or_else(|| format!("{name}: `{value}` is no HTTP status"))
        };
        let median = time("TIMING_50_PERCENTILE", "0s")?;
        let or_median = |name: &str| if env.contains_key(name) { time(name, "0s") } else { Ok(median) };
        let upstreams: Vec<String> = text("UPSTREAM_URIS", "").split(',').map(|uri| uri.trim().to_owned()).filter(|uri| !uri.is_empty()).collect();
        for upstream in &upstreams {
            let uri: http::Uri = upstream.parse().map_err(|error| format!("UPSTREAM_URIS: `{upstream}`: {error}"))?;
            if uri.scheme_str() != Some("http") {
                return Err(format!("UPSTREAM_URIS: `{upstream}`: only http:// upstreams are supported"));
            }
        }
        Ok(Self {
            name: text("NAME", "Service"),
            message: text("MESSAGE", "Hello World"),
            listen: text("LISTEN_ADDR", "0.0.0.0:9090"),
            upstreams,
            workers: text("UPSTREAM_WORKERS", "1").parse().ok().filter(|workers| *workers > 0).ok_or("UPSTREAM_WORKERS: a number above 0 is needed")?,
            keep_alive: text("HTTP_CLIENT_KEEP_ALIVES", "true") != "false",
            timeout: time("HTTP_CLIENT_REQUEST_TIMEOUT", "30s")?,
            timing: [median, or_median("TIMING_90_PERCENTILE")?, or_median("TIMING_99_PERCENTILE")?],
            variance: number("TIMING_VARIANCE", "0")? / if number("TIMING_VARIANCE", "0")? > 1.0 { 100.0 } else { 1.0 },
            error_rate: number("ERROR_RATE", "0")?,
            error_is_delay: text("ERROR_TYPE", "http_error") == "delay",
            error_code: code("ERROR_CODE", "500")?,
            error_delay: time("ERROR_DELAY", "0s")?,
            health_code: code("HEALTH_CHECK_RESPONSE_CODE", "200")?,
            ready_code: code("READY_CHECK_RESPONSE_CODE", "200")?,
            ready_delay: time("READY_CHECK_RESPONSE_DELAY", "0s")?,
        })
    }
}

struct Service {
    settings: Settings,
    client: Client<HttpConnector, Empty<Bytes>>,
    requests: AtomicU64,
    started: Instant,
}

/// Entry point of `lateen app fake-service`.
pub(crate) fn run(_args: &[String], env: &Environment) -> ExitCode {
    let settings = match Settings::from_env(env) {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("fake-service: {error}");
            return ExitCode::FAILURE;
        }
    };
    let listen = settings.listen.clone();
    let router = router(settings);
    listen_and_serve("fake-service", &listen, router)
}

fn router(settings: Settings) -> Router {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(settings.timeout));
    let client = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_max_idle_per_host(if settings.keep_alive { 64 } else { 0 })
        .build(connector);
    let service = Arc::new(Service { settings, client, requests: AtomicU64::new(0), started: Instant::now() });
    Router::new()
        .route("/health", get(|State(service): State<Arc<Service>>| async move { (service.settings.health_code, "OK") }))
        .route("/ready", get(ready))
        .fallback(answer)
        .with_state(service)
}

async fn ready(State(service): State<Arc<Service>>) -> Response {
    if service.started.elapsed() < service.settings.ready_delay {
        return (StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable").into_response();
    }
    (service.settings.ready_code, "OK").into_response()
}

async fn answer(State(service): State<Arc<Service>>, request: Request<Body>) -> Response {
    let begun = SystemTime::now();
    let started = Instant::now();
    let settings = &service.settings;
    let mut body = json!({
        "name": settings.name,
        "uri": request.uri().path(),
        "type": "HTTP",
        "ip_addresses": [own_address().to_string()],
        "start_time": iso_time(begun),
    });
    let (status, calls) = if service.fails_now() {
        if settings.error_is_delay {
            tokio::time::sleep(settings.error_delay).await;
            service.work(request.headers()).await
        } else {
            body["error"] = json!("Service error automatically injected");
            (settings.error_code, Map::new())
        }
    } else {
        service.work(request.headers()).await
    };
    body["end_time"] = json!(iso_time(SystemTime::now()));
    body["duration"] = json!(go_duration(started.elapsed()));
    body["body"] = json!(settings.message);
    if !calls.is_empty() {
        body["upstream_calls"] = Value::Object(calls);
    }
    body["code"] = json!(status.as_u16());
    println!("{} {} \"{} {}\" {} {:?}", iso_time(begun), settings.name, request.method(), request.uri(), status.as_u16(), started.elapsed());
    let mut text = serde_json::to_string_pretty(&body).unwrap_or_default();
    text.push('\n');
    (status, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}

impl Service {
    /// Whether this request is one of those that fail: spread evenly, so that a rate of 0.1 fails every tenth.
    fn fails_now(&self) -> bool {
        let rate = self.settings.error_rate;
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        if rate <= 0.0 {
            return false;
        }
        let due = |count: u64| (std::time::Duration::from_secs(count).as_secs_f64() * rate).floor();
        due(number + 1) > due(number)
    }

    /// Calls all upstreams, then waits out the configured answer time.
    async fn work(&self, headers: &HeaderMap) -> (StatusCode, Map<String, Value>) {
        let started = Instant::now();
        let target = self.answer_time();
        let calls: Vec<(String, Value, bool)> =
            stream::iter(self.settings.upstreams.clone()).map(|uri| self.call(uri, headers)).buffered(self.settings.workers).collect().await;
        let failed = calls.iter().any(|(_, _, ok)| !ok);
        if let Some(rest) = target.checked_sub(started.elapsed()) {
            tokio::time::sleep(rest).await;
        }
        let status = if failed { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
        (status, calls.into_iter().map(|(uri, value, _)| (uri, value)).collect())
    }

    fn answer_time(&self) -> Duration {
        let [median, ninetieth, last] = self.settings.timing;
        let base = match fastrand::f64() {
            draw if draw < 0.9 => median,
            draw if draw < 0.99 => ninetieth,
            _ => last,
        };
        let factor = 1.0 + self.settings.variance * (fastrand::f64() * 2.0 - 1.0);
        base.mul_f64(factor.max(0.0))
    }

    async fn call(&self, uri: String, headers: &HeaderMap) -> (String, Value, bool) {
        let outcome = match tokio::time::timeout(self.settings.timeout, self.fetch(&uri, headers)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("no answer within {:?}", self.settings.timeout)),
        };
        let (value, ok) = match outcome {
            Ok((status, text)) => {
                let ok = status.is_success();
                let mut value = match serde_json::from_str(&text) {
                    Ok(Value::Object(map)) if map.contains_key("name") => Value::Object(map),
                    _ => json!({"uri": uri, "type": "HTTP", "body": text.trim_end()}),
                };
                value["code"] = json!(status.as_u16());
                if !ok {
                    value["error"] = json!(format!("Error processing upstream request: {uri}, expected code 200, got {}", status.as_u16()));
                }
                (value, ok)
            }
            Err(error) => (json!({"uri": uri, "type": "HTTP", "code": -1, "error": format!("Error communicating with upstream service: {error}")}), false),
        };
        (uri, value, ok)
    }

    async fn fetch(&self, uri: &str, headers: &HeaderMap) -> Result<(StatusCode, String), String> {
        let mut request = Request::builder().uri(uri);
        for name in FORWARDED {
            for value in headers.get_all(*name) {
                request = request.header(*name, value);
            }
        }
        let request = request.body(Empty::new()).map_err(|error| error.to_string())?;
        let response = self.client.request(request).await.map_err(|error| with_causes(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await.map_err(|error| error.to_string())?;
        Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use tower::ServiceExt as _;

    fn env(pairs: &[(&str, &str)]) -> Environment {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn bad_values_are_named() {
        let error = Settings::from_env(&env(&[("TIMING_50_PERCENTILE", "5")])).err().expect("refused");
        assert!(error.starts_with("TIMING_50_PERCENTILE"), "{error}");
        assert!(Settings::from_env(&env(&[("UPSTREAM_URIS", "grpc://db:1")])).is_err());
    }

    #[tokio::test]
    async fn error_rate_fails_every_second() {
        let app = router(Settings::from_env(&env(&[("ERROR_RATE", "0.5"), ("ERROR_CODE", "503")])).expect("valid"));
        let mut codes = Vec::new();
        for _ in 0..4 {
            let response = app.clone().oneshot(Request::new(Body::empty())).await.expect("infallible");
            codes.push(response.status().as_u16());
        }
        assert_eq!(codes, [200, 503, 200, 503]);
    }

    #[tokio::test]
    async fn answer_nests_upstream_calls() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let uri = format!("http://{}", listener.local_addr().expect("bound"));
        tokio::spawn(crate::server::serve(listener, router(Settings::from_env(&env(&[("NAME", "db"), ("MESSAGE", "rows")])).expect("valid"))));
        let app = router(Settings::from_env(&env(&[("NAME", "backend"), ("UPSTREAM_URIS", &uri)])).expect("valid"));
        let response = app.oneshot(Request::new(Body::empty())).await.expect("infallible");
        assert_eq!(response.status(), StatusCode::OK);
        let body = response.into_body().collect().await.expect("body").to_bytes();
        let value: Value = serde_json::from_slice(&body).expect("json");
        assert_eq!(value["upstream_calls"][&uri]["body"], json!("rows"));
        assert_eq!(value["upstream_calls"][&uri]["code"], json!(200));
    }
}
