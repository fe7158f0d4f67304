//! Connections that leave the mesh: redirected here, connected by the host stage, copied in between.
//!
//! - Reads: the destination before redirection.
//! - Rule: what cannot be connected is reset, as a closed port would be.
//! - Limits: TCP; other protocols do not leave the sandbox.

use super::host_link::HostLink;
use super::network::EGRESS_PORT;
use lateen_base::ports::{SERVICE_NETWORK, SERVICE_PREFIX};
use lateen_sys::socket;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};

/// A connection's buffer, each way.
pub(crate) const COPY_BYTES: usize = 16 << 10;
/// Pause after a failed accept, mostly for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until the supervisor ends.
///
/// # Errors
/// When the port cannot be bound.
pub(crate) async fn start(host: Arc<HostLink>) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, EGRESS_PORT)).await?;
    tokio::spawn(async move {
        loop {
            let stream = accept(&listener, "egress").await;
            let host = Arc::clone(&host);
            tokio::spawn(async move { forward(stream, &host).await });
        }
    });
    Ok(())
}

/// The next connection; failures are logged and waited out.
pub(crate) async fn accept(listener: &TcpListener, what: &str) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                eprintln!("{what}: accept: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn forward(mut inside: TcpStream, host: &HostLink) {
    let target = match socket::original_destination(&inside) {
        Ok(SocketAddr::V4(target)) if leaves_the_mesh(target) => target,
        // A Service without endpoints, or somebody who calls the listener itself.
        _ => return reset(&inside),
    };
    match host.connect(target).await {
        Ok(mut outside) => {
            // Small writes of interactive protocols must not wait for each other.
            let _ = (inside.set_nodelay(true), outside.set_nodelay(true));
            // An error on either side ends both; the other side sees the end.
            let _ = copy_bidirectional_with_sizes(&mut inside, &mut outside, COPY_BYTES, COPY_BYTES).await;
        }
        Err(_) => reset(&inside),
    }
}

fn leaves_the_mesh(target: SocketAddrV4) -> bool {
    let is_service = (target.ip().to_bits() ^ SERVICE_NETWORK.to_bits()) >> (32 - u32::from(SERVICE_PREFIX)) == 0;
    !is_service && target.port() != EGRESS_PORT
}

pub(crate) fn reset(stream: &TcpStream) {
    let _ = socket::reset_on_close(stream);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_addresses_do_not_leave_the_mesh() {
        assert!(!leaves_the_mesh("10.96.3.4:80".parse().unwrap()));
        assert!(leaves_the_mesh("10.97.0.1:80".parse().unwrap()));
        assert!(leaves_the_mesh("192.0.2.1:443".parse().unwrap()));
    }
}
