//! The files of the page, inside the binary.
//!
//! - Reads: `assets/`, at build time.
//! - Rule: a content security policy allows the page's own files only.

use axum::{
    extract::Path,
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};

const INDEX: &str = include_str!("../assets/index.html");
const ICON: &str = include_str!("../assets/icon.svg");
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

fn file(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}

/// `GET /`.
pub(crate) async fn index() -> Response {
    file("text/html; charset=utf-8", INDEX)
}

/// `GET /favicon.ico`.
pub(crate) async fn icon() -> Response {
    file("image/svg+xml", ICON)
}

/// `GET /assets/NAME`.
pub(crate) async fn asset(Path(name): Path<String>) -> Response {
    match name.as_str() {
        "page.css" => file("text/css; charset=utf-8", include_str!("../assets/page.css")),
        "page.js" => file("text/javascript; charset=utf-8", include_str!("../assets/page.js")),
        "graph.js" => file("text/javascript; charset=utf-8", include_str!("../assets/graph.js")),
        "dagre.min.js" => file("text/javascript; charset=utf-8", include_str!("../assets/dagre.min.js")),
        "icon.svg" => icon().await,
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}
