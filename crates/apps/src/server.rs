//! One small HTTP server for all stand-ins: HTTP/1.1 and HTTP/2 without TLS on one port, on one thread.
//!
//! - Reads: a listen address in Go's form (`:5678`, `0.0.0.0:80`) and an axum router.
//! - Rule: `SIGTERM` and `SIGINT` stop accepting; requests in flight get [`DRAIN`] to end.
//! - Limits: [`CONNECTIONS_MAX`] connections at once; more wait in the kernel's queue.
//! - Not here: what is answered (one file per program).

use std::{
    convert::Infallible,
    future::Future,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    sync::{Semaphore, watch},
    task::JoinSet,
};
use tower::ServiceExt as _;

/// Longest wait for requests in flight after a stop signal.
const DRAIN: Duration = Duration::from_secs(5);
/// Connections served at once: a stand-in is a demonstration, not a web server.
const CONNECTIONS_MAX: usize = 4096;

/// The peer's address, put into each request's extensions.
#[derive(Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Runs `future` on a new single-threaded runtime.
pub(crate) fn block_on(future: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(future),
        Err(error) => {
            eprintln!("cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Binds Go's address form: an empty host means every address of both families.
///
/// # Errors
/// Go's wording: `listen tcp :80: bind: …`.
pub(crate) async fn bind(listen: &str) -> Result<TcpListener, String> {
    let (host, port) = listen.rsplit_once(':').ok_or_else(|| format!("listen tcp: address {listen}: missing port in address"))?;
    let port: u16 = port.parse().map_err(|_| format!("listen tcp: lookup tcp/{port}: unknown port"))?;
    let describe = |error: std::io::Error| format!("listen tcp {listen}: bind: {error}");
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
            Ok(listener) => Ok(listener),
            Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await.map_err(describe),
        };
    }
    TcpListener::bind((host, port)).await.map_err(describe)
}

/// Serves `router` on `listener` until a stop signal.
pub(crate) async fn serve(listener: TcpListener, router: Router) -> ExitCode {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        eprintln!("cannot listen for signals");
        return ExitCode::FAILURE;
    };
    let (stop, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = term.recv() => break,
            _ = int.recv() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let connection = connection(stream, peer, router.clone(), stopping.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(permit);
                });
                while connections.try_join_next().is_some() {}
            }
            // Out of file descriptors or a peer that is gone already: the next accept may succeed.
            Err(error) => {
                eprintln!("accept: {error}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
    drop(listener);
    stop.send_replace(true);
    // A client that never ends its request must not keep the program.
    let _ = tokio::time::timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await;
    ExitCode::SUCCESS
}

async fn connection(stream: TcpStream, peer: SocketAddr, router: Router, mut stopping: watch::Receiver<bool>) {
    // Without this, small answers wait for the peer's delayed acknowledgement; failure only costs time.
    let _ = stream.set_nodelay(true);
    let service = hyper::service::service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
        let router = router.clone();
        request.extensions_mut().insert(Peer(SocketAddr::new(peer.ip().to_canonical(), peer.port())));
        async move {
            let answer: Result<_, Infallible> = router.oneshot(request).await;
            answer
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    builder.http2().timer(TokioTimer::new());
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // A connection's error is its client's business; the server goes on.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stopping.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// Binds and serves, with the errors on standard error.
pub(crate) fn listen_and_serve(name: &str, listen: &str, router: Router) -> ExitCode {
    block_on(async {
        match bind(listen).await {
            Ok(listener) => {
                eprintln!("{name}: listening on {listen}");
                serve(listener, router).await
            }
            Err(error) => {
                eprintln!("{name}: {error}");
                ExitCode::FAILURE
            }
        }
    })
}
