//! Istio's standard metrics of HTTP and gRPC requests.
//!
//! - Reads: `plan::listener::IstioStats`; what the peers said of themselves, the cluster's services, the TLS handshake.
//! - Rule: counted once per request, when it has ended.
//! - Not here: the tables and labels (`telemetry::istio`), TCP (`network/report.rs`).

use crate::http::stream::{Rules, Stream};
use lateen_plan::listener::IstioStats;

/// What this proxy says of itself to its peers.
pub(crate) struct OwnMetadata {
    pub(crate) encoded: String,
    pub(crate) node_id: String,
}

pub(crate) fn own_metadata(_rules: &Rules<'_>) -> Option<OwnMetadata> {
    None
}

pub(crate) fn on_complete(_settings: IstioStats, _stream: &mut Stream<'_>) {}
