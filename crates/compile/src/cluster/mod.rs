//! CDS: the destinations a proxy knows, and how it gets to each.
//!
//! - Reads: a [`View`].
//! - Twin: `kinds/src/destination_rule/subset.rs`.
//! - Rule: one cluster for each service port, and one more for each subset its DestinationRule declares.
//! - Not here: endpoints (`endpoint`), what a policy's fields mean (`kinds/src/destination_rule/`).

mod inbound;
mod outbound;
mod tls;

use crate::{Named, Resource, View, pb};
use lateen_base::names;
use lateen_envoy_api::envoy::config::cluster::v3::Cluster;
use lateen_envoy_api::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType, LbPolicy};
use lateen_envoy_api::envoy::config::core::v3::{Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions as CommonHttp};
use lateen_envoy_api::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use lateen_envoy_api::envoy::extensions::upstreams::http::v3::http_protocol_options::{UpstreamProtocolOptions, UseDownstreamHttpConfig};
use lateen_envoy_api::pack;
use lateen_istio_api::GoDuration;
use lateen_kinds::destination_rule::connection_pool::{self, HTTP_OPTIONS};

/// All clusters of one proxy.
pub(crate) fn clusters(view: &View<'_>) -> Named {
    let mut all = outbound::clusters(view);
    all.push(black_hole(view));
    if !view.proxy.is_router() {
        all.push(passthrough(view));
        all.extend(inbound::clusters(view));
        all.push(inbound::passthrough(view));
    }
    all.into_iter().map(|cluster| (cluster.name.clone(), Resource::new(&cluster))).collect()
}

fn cluster(view: &View<'_>, name: &str, discovery: DiscoveryType) -> Cluster {
    Cluster {
        name: name.to_owned(),
        // The semicolon ends the name in statistics, so that dots in it separate nothing. Source: istiod.
        alt_stat_name: format!("{name};"),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(discovery as i32)),
        connect_timeout: pb::duration(view.config().connect_timeout),
        ..Default::default()
    }
}

/// A cluster without endpoints: whatever goes there is dropped.
fn black_hole(view: &View<'_>) -> Cluster {
    cluster(view, names::BLACK_HOLE_CLUSTER, DiscoveryType::Static)
}

/// Connections to undeclared destinations, where the client meant them to go.
fn passthrough(view: &View<'_>) -> Cluster {
    original_destination(view, names::PASSTHROUGH_CLUSTER)
}

/// A cluster that connects where the client did, in the client's protocol, with no limits.
fn original_destination(view: &View<'_>, name: &str) -> Cluster {
    let mut cluster = Cluster {
        alt_stat_name: format!("{};", names::PASSTHROUGH_CLUSTER),
        lb_policy: LbPolicy::ClusterProvided as i32,
        ..cluster(view, name, DiscoveryType::OriginalDst)
    };
    connection_pool::apply(None, None, Some(connect_timeout(view)), &mut cluster);
    cluster.typed_extension_protocol_options = pb::one(HTTP_OPTIONS, as_downstream_for_five_minutes());
    cluster
}

fn connect_timeout(view: &View<'_>) -> GoDuration {
    GoDuration::from(view.config().connect_timeout)
}

/// HTTP in the client's version, on connections dropped after 300 s of silence. Source: istiod.
fn as_downstream_for_five_minutes() -> lateen_envoy_api::Any {
    let same = UseDownstreamHttpConfig {
        http_protocol_options: Some(Http1ProtocolOptions::default()),
        http2_protocol_options: Some(Http2ProtocolOptions::default()),
        ..Default::default()
    };
    pack(&HttpProtocolOptions {
        common_http_protocol_options: Some(CommonHttp { idle_timeout: pb::seconds(300), ..Default::default() }),
        upstream_protocol_options: Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(same)),
        ..Default::default()
    })
}
