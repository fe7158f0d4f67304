//! The policy filters of a workload: who may call it.
//!
//! - Reads: AuthorizationPolicies that select the workload.
//! - Rule: policies of the root namespace and of the workload's own hold together.
//! - Not here: what a rule means (`kinds/src/authorization_policy/`), where the filters stand (`filter_order`).

use crate::View;
use lateen_envoy_api::envoy::config::listener::v3::Filter;
use lateen_envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;

/// The same policies in both forms.
#[derive(Default)]
pub(super) struct Policies {
    /// For requests.
    pub http: Vec<HttpFilter>,
    /// For connections.
    pub network: Vec<Filter>,
}

impl Policies {
    /// The policies that hold for the proxy's workload.
    pub(super) fn of(_view: &View<'_>) -> Self {
        Self::default()
    }
}
