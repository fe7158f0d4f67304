//! The published ports: connections from the host, forwarded to the gateway pod as they are.
//!
//! - Rule: knows nothing of HTTP or TLS; the gateway decides. An end of one direction ends that direction only.
//! - Limits: a connection waits [`GATEWAY_WAIT`] for a gateway that is starting, then it is reset.

use super::Context;
use super::egress::{COPY_BYTES, accept, reset};
use lateen_base::{labels, names};
use serde_json::Value;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};

/// A gateway that was killed is back well before.
const GATEWAY_WAIT: Duration = Duration::from_secs(5);
/// How often to look for the gateway while it starts.
const LOOK: Duration = Duration::from_millis(20);

/// Serves a listener of the host until the supervisor ends. `port` is the gateway's port in its pod.
///
/// # Errors
/// When the descriptor is no listener.
pub(crate) fn start(context: &Arc<Context>, listener: OwnedFd, port: u16) -> io::Result<()> {
    let listener = TcpListener::from_std(listener.into())?;
    let context = Arc::clone(context);
    tokio::spawn(async move {
        loop {
            let stream = accept(&listener, "ingress").await;
            let context = Arc::clone(&context);
            tokio::spawn(async move { forward(stream, &context, port).await });
        }
    });
    Ok(())
}

async fn forward(mut outside: TcpStream, context: &Context, port: u16) {
    let Ok(Ok(mut inside)) = tokio::time::timeout(GATEWAY_WAIT, connect(context, port)).await else { return reset(&outside) };
    let _ = (inside.set_nodelay(true), outside.set_nodelay(true));
    // An error on either side ends both.
    let _ = copy_bidirectional_with_sizes(&mut outside, &mut inside, COPY_BYTES, COPY_BYTES).await;
}

async fn connect(context: &Context, port: u16) -> io::Result<TcpStream> {
    loop {
        if let Some(address) = gateway(context) {
            match TcpStream::connect((address, port)).await {
                Ok(stream) => return Ok(stream),
                // No Gateway opens this port.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Err(error),
                Err(_) => {}
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A ready gateway pod, chosen at random.
fn gateway(context: &Context) -> Option<Ipv4Addr> {
    let filter = lateen_store::Filter {
        kind: "Pod".into(),
        namespace: names::ROOT_NAMESPACE.into(),
        selector: lateen_store::Selector::parse(&format!("{}={}", labels::GATEWAY, labels::GATEWAY_INGRESS)).ok()?,
        ..Default::default()
    };
    let pods = context.store.list(&filter);
    let ready: Vec<Ipv4Addr> = pods.iter().filter(|pod| super::pod::status::is_ready(pod)).filter_map(|pod| address(pod)).collect();
    let index = context.random(ready.len());
    ready.get(index).copied()
}

fn address(pod: &Value) -> Option<Ipv4Addr> {
    pod.pointer("/status/podIP")?.as_str()?.parse().ok()
}
