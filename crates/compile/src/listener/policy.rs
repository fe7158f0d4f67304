//! The policy filters of a workload: who may call it.
//!
//! - Reads: AuthorizationPolicies that select the workload, the mesh's trust domains.
//! - Rule: policies of the root namespace and of the workload's own hold together.
//! - Not here: what a rule means (`kinds/src/authorization_policy/`), where the filters stand (`filter_order`).

use crate::View;
use crate::filter_order::{http_filter, network_filter};
use lateen_envoy_api::envoy::config::listener::v3::Filter;
use lateen_envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use lateen_envoy_api::pack;
use lateen_kinds::authorization_policy::rbac;

/// The same policies in both forms.
pub(super) struct Policies {
    /// For requests.
    pub http: Vec<HttpFilter>,
    /// For connections.
    pub network: Vec<Filter>,
}

impl Policies {
    /// The policies that hold for the proxy's workload.
    pub(super) fn of(view: &View<'_>) -> Self {
        let config = view.config();
        let selected = view.snapshot.authorization_policies_of(&view.proxy.namespace, &view.proxy.labels);
        let trust_domains: Vec<String> = std::iter::once(&config.trust_domain).chain(&config.trust_domain_aliases).cloned().collect();
        Self {
            http: rbac::http_filters(&selected, &trust_domains).iter().map(|f| http_filter(rbac::HTTP_FILTER, pack(f))).collect(),
            network: rbac::network_filters(&selected, &trust_domains).iter().map(|f| network_filter(rbac::NETWORK_FILTER, pack(f))).collect(),
        }
    }
}
