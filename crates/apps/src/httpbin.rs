//! `httpbin`: tells a client what it sent, and answers what it asks for.
//!
//! - Reads: `-port` and `-host` of go-httpbin, `-b ADDRESS` of gunicorn; other gunicorn words are accepted and have no effect.
//! - Rule: answers have httpbin's JSON keys (`args`, `headers`, `origin`, `url`, `data`, `json`, `form`).
//! - Limits: `/bytes`, `/stream` and `/delay` are capped as in the original (100 KiB, 100 lines, 10 s); bodies up to [`BODY_BYTES_MAX`].

use std::{collections::BTreeMap, process::ExitCode, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Path,
    response::{IntoResponse, Response},
    routing::any,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header, request::Parts};
use serde_json::{Map, Value, json};

use crate::{
    Environment,
    server::{Peer, listen_and_serve},
};

const BODY_BYTES_MAX: usize = 10 * 1024 * 1024;
const BYTES_MAX: usize = 100 * 1024;
const STREAM_LINES_MAX: usize = 100;
const DELAY_MAX: Duration = Duration::from_secs(10);

/// Entry point of `lateen app httpbin`.
pub(crate) fn run(args: &[String], env: &Environment) -> ExitCode {
    let mut host = String::new();
    let mut port = env.get("PORT").cloned().unwrap_or_else(|| "8080".to_owned());
    let mut words = args.iter();
    while let Some(word) = words.next() {
        let bare = word.trim_start_matches('-');
        let (name, inline) = bare.split_once('=').map_or((bare, None), |(name, value)| (name, Some(value.to_owned())));
        if !matches!(name, "port" | "host" | "b" | "bind") || bare.len() == word.len() {
            continue;
        }
        let Some(value) = inline.or_else(|| words.next().cloned()) else {
            eprintln!("httpbin: flag needs an argument: -{name}");
            return ExitCode::from(2);
        };
        match name {
            "port" => port = value,
            "host" => host = value,
            _ => (host, port) = value.rsplit_once(':').map_or((String::new(), value.clone()), |(host, port)| (host.to_owned(), port.to_owned())),
        }
    }
    listen_and_serve("httpbin", &format!("{host}:{port}"), router())
}

fn router() -> Router {
    Router::new()
        .route("/", any(|| async { ([(header::CONTENT_TYPE, "text/html")], "<!DOCTYPE html><title>httpbin</title><h1>httpbin</h1>\n") }))
        .route("/get", any(echo))
        .route("/post", any(echo_body))
        .route("/put", any(echo_body))
        .route("/patch", any(echo_body))
        .route("/delete", any(echo_body))
        .route("/anything", any(echo_body))
        .route("/anything/{*rest}", any(echo_body))
        .route("/headers", any(|request: Request<Body>| async move { pretty(&json!({"headers": headers_json(request.headers())})) }))
        .route("/ip", any(|request: Request<Body>| async move { pretty(&json!({"origin": origin(&request.into_parts().0)})) }))
        .route("/user-agent", any(user_agent))
        .route("/hostname", any(|| async { pretty(&json!({"hostname": crate::net::hostname()})) }))
        .route("/status/{codes}", any(status))
        .route("/delay/{seconds}", any(delay))
        .route("/bytes/{count}", any(bytes))
        .route("/stream/{count}", any(stream))
        .route("/response-headers", any(response_headers))
        .route("/redirect/{count}", any(redirect))
        .route("/redirect-to", any(redirect_to))
        .route("/basic-auth/{user}/{password}", any(basic_auth))
        .route("/bearer", any(bearer))
        .route("/cookies", any(cookies))
        .route("/uuid", any(uuid))
        .route("/json", any(|| async { pretty(&json!({"slideshow": {"author": "Lateen", "title": "Sample", "slides": []}})) }))
        .route("/html", any(|| async { ([(header::CONTENT_TYPE, "text/html")], "<!DOCTYPE html><html><body><h1>A page</h1></body></html>\n") }))
        .route("/healthz", any(|| async { "ok" }))
}

fn pretty(value: &Value) -> Response {
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

async fn echo(request: Request<Body>) -> Response {
    let (parts, _) = request.into_parts();
    pretty(&Value::Object(common(&parts)))
}

async fn echo_body(request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let body = match to_bytes(body, BODY_BYTES_MAX).await {
        Ok(body) => body,
        Err(error) => return (StatusCode::PAYLOAD_TOO_LARGE, format!("{error}\n")).into_response(),
    };
    let mut answer = common(&parts);
    let text = String::from_utf8_lossy(&body).into_owned();
    let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let is_form = kind.starts_with("application/x-www-form-urlencoded");
    answer.insert("form".to_owned(), if is_form { query_json(&text) } else { json!({}) });
    answer.insert("json".to_owned(), serde_json::from_str(&text).unwrap_or(Value::Null));
    answer.insert("data".to_owned(), if is_form { json!("") } else { json!(text) });
    answer.insert("files".to_owned(), json!({}));
    answer.insert("method".to_owned(), json!(parts.method.as_str()));
    pretty(&Value::Object(answer))
}

fn common(parts: &Parts) -> Map<String, Value> {
    let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok()).or_else(|| parts.uri.authority().map(|host| host.as_str()));
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let scheme = parts.headers.get("x-forwarded-proto").and_then(|scheme| scheme.to_str().ok()).unwrap_or("http");
    let mut map = Map::new();
    map.insert("args".to_owned(), query_json(parts.uri.query().unwrap_or_default()));
    map.insert("headers".to_owned(), headers_json(&parts.headers));
    map.insert("origin".to_owned(), json!(origin(parts)));
    map.insert("url".to_owned(), json!(format!("{scheme}://{}{path}", host.unwrap_or("localhost"))));
    map
}

fn origin(parts: &Parts) -> String {
    match parts.headers.get("x-forwarded-for").and_then(|value| value.to_str().ok()) {
        Some(forwarded) => forwarded.to_owned(),
        None => parts.extensions.get::<Peer>().map(|peer| peer.0.ip().to_string()).unwrap_or_default(),
    }
}

/// Headers under their usual spelling (`X-Request-Id`), several values joined by commas, as the original shows them.
fn headers_json(headers: &HeaderMap) -> Value {
    let mut map: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        map.entry(title_case(name.as_str())).and_modify(|text| text.push_str(&format!(",{value}"))).or_insert_with(|| value.into_owned());
    }
    json!(map)
}

fn title_case(name: &str) -> String {
    let word = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
    };
    name.split('-').map(word).collect::<Vec<_>>().join("-")
}

fn query_pairs(query: &str) -> Vec<(String, String)> {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    };
    query.split('&').filter(|pair| !pair.is_empty()).map(pair).collect()
}

fn query_json(query: &str) -> Value {
    let mut map = Map::new();
    for (name, value) in query_pairs(query) {
        match map.get_mut(&name) {
            Some(Value::Array(values)) => values.push(json!(value)),
            Some(one) => *one = json!([one.clone(), value]),
            None => {
                map.insert(name, json!(value));
            }
        }
    }
    Value::Object(map)
}

/// Percent and plus decoding; a broken escape stays as it is.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while let Some(byte) = bytes.get(index) {
        let escape = bytes.get(index + 1..index + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        match (byte, escape.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(value)) => {
                out.push(value);
                index += 2;
            }
            (b'+', _) => out.push(b' '),
            (other, _) => out.push(*other),
        }
        index += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

async fn user_agent(headers: HeaderMap) -> Response {
    pretty(&json!({"user-agent": headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok())}))
}

/// `/status/503`, or one of several by weight: `/status/200:0.9,503:0.1`.
async fn status(Path(codes): Path<String>) -> Response {
    let mut choices = Vec::new();
    for choice in codes.split(',') {
        let (code, weight) = choice.split_once(':').unwrap_or((choice, "1"));
        let parsed = code.parse().ok().and_then(|code: u16| StatusCode::from_u16(code).ok()).zip(weight.parse::<f64>().ok());
        match parsed {
            Some(choice) => choices.push(choice),
            None => return (StatusCode::BAD_REQUEST, "Invalid status code\n").into_response(),
        }
    }
    let total: f64 = choices.iter().map(|(_, weight)| weight).sum();
    let mut draw = fastrand::f64() * total;
    for (code, weight) in &choices {
        draw -= weight;
        if draw < 0.0 {
            return code.into_response();
        }
    }
    choices.last().map_or(StatusCode::BAD_REQUEST, |(code, _)| *code).into_response()
}

async fn delay(Path(seconds): Path<f64>, request: Request<Body>) -> Response {
    let wait = Duration::try_from_secs_f64(seconds).unwrap_or_default().min(DELAY_MAX);
    tokio::time::sleep(wait).await;
    echo_body(request).await
}

async fn bytes(Path(count): Path<usize>) -> Response {
    let body: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(count.min(BYTES_MAX)).collect();
    ([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response()
}

async fn stream(Path(count): Path<usize>, request: Request<Body>) -> Response {
    let (parts, _) = request.into_parts();
    let common = common(&parts);
    let lines = (0..count.min(STREAM_LINES_MAX)).map(move |id| {
        let mut line = common.clone();
        line.insert("id".to_owned(), json!(id));
        Ok::<_, std::convert::Infallible>(Bytes::from(format!("{}\n", Value::Object(line))))
    });
    ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(futures::stream::iter(lines))).into_response()
}

async fn response_headers(request: Request<Body>) -> Response {
    let pairs = query_pairs(request.uri().query().unwrap_or_default());
    let mut response = pretty(&query_json(request.uri().query().unwrap_or_default()));
    for (name, value) in pairs {
        match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(&value)) {
            (Ok(name), Ok(value)) => {
                response.headers_mut().append(name, value);
            }
            _ => return (StatusCode::BAD_REQUEST, format!("bad header `{name}`\n")).into_response(),
        }
    }
    response
}

async fn redirect(Path(count): Path<u32>) -> Response {
    let to = if count <= 1 { "/get".to_owned() } else { format!("/redirect/{}", count - 1) };
    (StatusCode::FOUND, [(header::LOCATION, to)]).into_response()
}

async fn redirect_to(request: Request<Body>) -> Response {
    let pairs = query_pairs(request.uri().query().unwrap_or_default());
    let find = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let status = find("status_code").and_then(|code| code.parse().ok()).and_then(|code: u16| StatusCode::from_u16(code).ok());
    match find("url") {
        Some(url) => (status.unwrap_or(StatusCode::FOUND), [(header::LOCATION, url)]).into_response(),
        None => (StatusCode::BAD_REQUEST, "missing query parameter `url`\n").into_response(),
    }
}

async fn basic_auth(Path((user, password)): Path<(String, String)>, headers: HeaderMap) -> Response {
    let expected = format!("Basic {}", crate::curl::base64(format!("{user}:{password}").as_bytes()));
    if headers.get(header::AUTHORIZATION).is_some_and(|given| given.as_bytes() == expected.as_bytes()) {
        return pretty(&json!({"authenticated": true, "authorized": true, "user": user}));
    }
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Basic realm=\"Fake Realm\"")]).into_response()
}

async fn bearer(headers: HeaderMap) -> Response {
    let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| value.strip_prefix("Bearer "));
    match token {
        Some(token) => pretty(&json!({"authenticated": true, "token": token})),
        None => (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")]).into_response(),
    }
}

async fn cookies(headers: HeaderMap) -> Response {
    let text = headers.get(header::COOKIE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let cookies: Map<String, Value> = text.split("; ").filter_map(|pair| pair.split_once('=')).map(|(name, value)| (name.to_owned(), json!(value))).collect();
    pretty(&json!({"cookies": cookies}))
}

async fn uuid() -> Response {
    let bits = (fastrand::u128(..) & !(0xf << 76) & !(0xc << 60)) | (0x4 << 76) | (0x8 << 60);
    let hex = format!("{bits:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    pretty(&json!({"uuid": format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tower::ServiceExt as _;

    async fn call(path: &str) -> (StatusCode, String) {
        let request = Request::builder().uri(path).header("host", "httpbin").header("x-b3-traceid", "7").body(Body::empty()).expect("valid");
        let response = router().oneshot(request).await.expect("infallible");
        let status = response.status();
        let body = to_bytes(response.into_body(), BODY_BYTES_MAX).await.expect("body");
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    #[tokio::test]
    async fn headers_have_their_usual_spelling() {
        let (_, body) = call("/headers").await;
        assert!(body.contains("\"X-B3-Traceid\": \"7\""), "{body}");
    }

    #[tokio::test]
    async fn status_answers_what_was_asked() {
        assert_eq!(call("/status/418").await.0, StatusCode::IM_A_TEAPOT);
        assert_eq!(call("/status/9999").await.0, StatusCode::BAD_REQUEST);
    }

    #[tokio::test]
    async fn query_arguments_are_decoded() {
        let (_, body) = call("/get?a=b%20c&a=d+e").await;
        let value: Value = serde_json::from_str(&body).expect("json");
        assert_eq!(value.pointer("/args/a"), Some(&json!(["b c", "d e"])));
    }

    #[tokio::test]
    async fn bytes_has_the_asked_length() {
        let request = Request::builder().uri("/bytes/1000").body(Body::empty()).expect("valid");
        let response = router().oneshot(request).await.expect("infallible");
        assert_eq!(to_bytes(response.into_body(), BODY_BYTES_MAX).await.expect("body").len(), 1000);
    }
}
