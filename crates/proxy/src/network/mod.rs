//! Network filters: what happens to a connection once its chain is known.
//!
//! - Reads: `plan::listener::{FilterChain, NetworkFilter, Terminal}`.
//! - Rule: filters run in their configured order before the terminal one; a refusal closes the connection.
//! - Not here: choosing the chain (`listener/match.rs`), HTTP (`http`).

pub mod copy;
pub mod rbac;
pub mod report;
pub mod tcp_proxy;
mod tracked;

use lateen_plan::listener::{FilterChain, NetworkFilter, Terminal};

use crate::connection::{ConnectionFacts, Downstream};
use crate::transport::TlsSession;

pub use report::{log_handshake_failed, log_unmatched};
pub use tracked::Tracked;

/// Why the chain's authorization refuses the connection (Envoy's details); `None`: it is admitted. Chains of HTTP judge requests instead.
pub fn refusal(chain: &FilterChain, facts: &ConnectionFacts, tls: Option<&TlsSession>) -> Option<String> {
    chain.network_filters.iter().find_map(|filter| match filter {
        NetworkFilter::Rbac(rules) => rbac::refusal(rules, facts, tls),
        NetworkFilter::MetadataExchange { .. } | NetworkFilter::IstioStats(_) | NetworkFilter::SniCluster => None,
    })
}

/// Whether the chain's authorization admits the connection.
pub fn admits(chain: &FilterChain, facts: &ConnectionFacts, tls: Option<&TlsSession>) -> bool {
    refusal(chain, facts, tls).is_none()
}

/// Serves a connection by its chain, to its end. `early` is an upstream connection that inspection already opened.
pub async fn serve(downstream: Downstream, early: Option<tcp_proxy::Opened>) {
    if let Some(why) = refusal(&downstream.chain, &downstream.facts, downstream.tls().map(|t| &**t)) {
        report::log_denied(&downstream, &why);
        downstream.stream.reset();
        return;
    }
    match downstream.chain.terminal.clone() {
        Terminal::TcpProxy(proxy) => tcp_proxy::serve(downstream, proxy, early).await,
        Terminal::Http(hcm) => crate::http::serve(downstream, hcm).await,
    }
}
