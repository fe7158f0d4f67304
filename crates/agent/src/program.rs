//! Running the proxy: a real Envoy as a child, restarted when it crashes and drained before it is stopped.
//!
//! - Reads: the bootstrap file written before.
//! - Rule: a crash loses the crashed proxy's requests only; the next one starts with the same file, sockets and certificate.
//! - Limits: waits between restarts grow from `RESTART_FIRST` to `RESTART_MAX`.

use crate::fetch::{Ask, fetch};
use hyper::Method;
use lateen_xds::backoff::Backoff;
use lateen_xds::client;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// First wait after a crash.
const RESTART_FIRST: Duration = Duration::from_millis(50);
/// Longest wait after a crash.
const RESTART_MAX: Duration = Duration::from_secs(10);
/// Shortest drain: a change of endpoints is in force everywhere well within it.
const DRAIN_MIN: Duration = Duration::from_secs(1);
/// Between two looks at the open connections.
const DRAIN_LOOK: Duration = Duration::from_millis(200);
/// A proxy that ran this long had no trouble starting: the next wait is short again.
const STEADY: Duration = Duration::from_secs(30);

/// How to run Envoy.
#[derive(Clone, Debug)]
pub struct Envoy {
    /// The program.
    pub path: PathBuf,
    /// Its bootstrap file.
    pub bootstrap: PathBuf,
    /// Worker threads.
    pub concurrency: usize,
    /// Port of its admin interface.
    pub admin_port: u16,
    /// Whether our own sockets carry the mark.
    pub mark: bool,
    /// How long it drains before it is stopped.
    pub drain: Duration,
}

impl Envoy {
    /// Keeps Envoy running until `stop` becomes true, then drains and stops it.
    pub async fn keep(self, mut stop: watch::Receiver<bool>) {
        let mut backoff = Backoff::new(RESTART_FIRST, RESTART_MAX);
        loop {
            let started = Instant::now();
            match self.spawn() {
                Ok(mut child) => tokio::select! {
                    status = child.wait() => tracing::error!(?status, "envoy ended by itself; starting it again"),
                    _ = stop.wait_for(|s| *s) => return self.stop(child).await,
                },
                Err(error) => tracing::error!(path = %self.path.display(), %error, "envoy cannot be started; check the path and that it is executable"),
            }
            if started.elapsed() > STEADY {
                backoff.reset();
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next(client::jitter())) => {}
                _ = stop.wait_for(|s| *s) => return,
            }
        }
    }

    fn spawn(&self) -> std::io::Result<Child> {
        let path = |p: &Path| p.to_string_lossy().into_owned();
        Command::new(&self.path)
            .args(["-c", &path(&self.bootstrap), "--concurrency", &self.concurrency.max(1).to_string()])
            // Hot restart would share memory with every other Envoy of this machine.
            .args(["--disable-hot-restart", "--drain-time-s", "45", "--drain-strategy", "immediate", "-l", "warning"])
            .kill_on_drop(true)
            .spawn()
    }

    /// Returns when no connection is left, but not before clients had time to learn that the endpoint is going.
    async fn idle(&self, admin: SocketAddr) {
        tokio::time::sleep(DRAIN_MIN).await;
        let ask = Ask::get(admin, "/stats?filter=^server.total_connections$", self.mark, Duration::from_secs(1));
        while !fetch(&ask).await.is_ok_and(|answer| answer.body.as_ref().trim_ascii().ends_with(b": 0")) {
            tokio::time::sleep(DRAIN_LOOK).await;
        }
    }

    async fn stop(&self, mut child: Child) {
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, self.admin_port));
        let post = |path: &str| Ask { method: Method::POST, ..Ask::get(admin, path, self.mark, Duration::from_secs(1)) };
        if let Err(reason) = fetch(&post("/drain_listeners?graceful&skip_exit")).await {
            tracing::warn!(reason, "asking envoy to drain");
        }
        tokio::select! {
            _ = child.wait() => return,
            () = tokio::time::sleep(self.drain) => {}
            () = self.idle(admin) => {}
        }
        if let Err(reason) = fetch(&post("/quitquitquit")).await {
            tracing::warn!(reason, "asking envoy to stop");
        }
        if tokio::time::timeout(Duration::from_secs(2), child.wait()).await.is_err()
            && let Err(error) = child.kill().await
        {
            tracing::warn!(%error, "killing envoy");
        }
    }
}
