//! `helloworld`: `/hello` tells version and pod, as Istio's sample does.
//!
//! - Reads: `-version` or the variable `SERVICE_VERSION`; listens on 5000.
//! - Limits: `/hello` and `/health` only.

use std::process::ExitCode;

use axum::{Router, routing::get};

use crate::{
    Environment,
    cli_args::{Takes, parse},
    net::hostname,
    server::listen_and_serve,
};

/// Entry point of `lateen app helloworld`.
pub(crate) fn run(args: &[String], env: &Environment) -> ExitCode {
    match parse(args, &[("version", Takes::Value), ("port", Takes::Value)]) {
        Ok(parsed) => {
            let version = env.get("SERVICE_VERSION").map(String::as_str).or(parsed.last("version")).unwrap_or("v1");
            let text = format!("Hello version: {version}, instance: {}\n", hostname());
            let router = Router::new()
                .route("/hello", get(move || async move { text }))
                .route("/health", get(|| async { "Helloworld is healthy" }));
            listen_and_serve("helloworld", &format!(":{}", parsed.last("port").unwrap_or("5000")), router)
        }
        Err(error) => {
            eprintln!("helloworld: {error}");
            ExitCode::FAILURE
        }
    }
}
