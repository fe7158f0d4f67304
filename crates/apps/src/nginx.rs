//! `nginx`: the welcome page on port 80.
//!
//! - Reads: `-port` (ours); nginx's own flags `-g` and `-c` are accepted with their value and have no effect.
//! - Limits: `/` and `/index.html` only; anything else is 404, as with an empty document root.

use std::process::ExitCode;

use axum::Router;
use http::{Request, StatusCode, header};

use crate::{
    Environment,
    cli_args::{Takes, parse},
    server::listen_and_serve,
};

const WELCOME: &str = "<!DOCTYPE html>\n<html>\n<head><title>Welcome to nginx!</title></head>\n<body>\n<h1>Welcome to nginx!</h1>\n<p>This page is served by Lateen's stand-in for nginx.</p>\n</body>\n</html>\n";
const NOT_FOUND: &str = "<html>\n<head><title>404 Not Found</title></head>\n<body>\n<center><h1>404 Not Found</h1></center>\n</body>\n</html>\n";

/// Entry point of `lateen app nginx`.
pub(crate) fn run(args: &[String], _env: &Environment) -> ExitCode {
    match parse(args, &[("port", Takes::Value), ("g", Takes::Value), ("c", Takes::Value)]) {
        Ok(parsed) => {
            let router = Router::new().fallback(|request: Request<axum::body::Body>| async move {
                let (status, page) = match request.uri().path() {
                    "/" | "/index.html" => (StatusCode::OK, WELCOME),
                    _ => (StatusCode::NOT_FOUND, NOT_FOUND),
                };
                println!("\"{} {} {:?}\" {} {}", request.method(), request.uri().path(), request.version(), status.as_u16(), page.len());
                (status, [(header::SERVER, "nginx/1.27.0"), (header::CONTENT_TYPE, "text/html")], page)
            });
            listen_and_serve("nginx", &format!(":{}", parsed.last("port").unwrap_or("80")), router)
        }
        Err(error) => {
            eprintln!("nginx: {error}");
            ExitCode::FAILURE
        }
    }
}
