//! The live page, served on the host's loopback from inside the sandbox.
//!
//! - Twin: `dashboard`, which makes it; this file tells it what runs.

use super::Context;
use super::api::rows;
use axum::serve::ListenerExt;
use lateen_base::Finding;
use lateen_dashboard::{Facts, Pod};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::net::TcpListener;

struct MeshFacts(Arc<Context>);

impl Facts for MeshFacts {
    fn mesh(&self) -> String {
        self.0.start.options.mesh.clone()
    }

    fn pods(&self) -> Vec<Pod> {
        rows(&self.0)
    }

    fn problems(&self) -> Vec<Finding> {
        self.0.findings.all()
    }

    fn gateway_url(&self) -> Option<String> {
        Some(format!("http://127.0.0.1:{}", self.0.start.ports.ingress))
    }
}

/// Serves the page until the supervisor ends.
///
/// # Errors
/// When the descriptor is no listener.
pub(crate) fn start(context: &Arc<Context>, listener: OwnedFd) -> io::Result<()> {
    let listener = TcpListener::from_std(listener.into())?;
    // Events are small and must not wait for each other.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    let router = lateen_dashboard::router(Arc::new(MeshFacts(Arc::clone(context))));
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            eprintln!("page: {error}");
        }
    });
    Ok(())
}
