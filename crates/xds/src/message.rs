//! One request or response in either xDS protocol, so that callers need not care which is spoken.
//!
//! - Reads: `envoy.service.discovery.v3`.
//! - Rule: a stream speaks one protocol from its first message to its last.

use lateen_envoy_api::envoy::config::core::v3::Node;
use lateen_envoy_api::envoy::service::discovery::v3 as pb;

/// Which of the two xDS protocols a stream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Incremental: each message carries differences.
    Delta,
    /// State of the world: each response carries the whole set.
    Sotw,
}

/// What a client sends.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// On `DeltaAggregatedResources` and the delta method of each service.
    Delta(Box<pb::DeltaDiscoveryRequest>),
    /// On `StreamAggregatedResources` and the stream method of each service.
    Sotw(Box<pb::DiscoveryRequest>),
}

impl Request {
    /// The resource type this request is about.
    #[must_use]
    pub fn type_url(&self) -> &str {
        match self {
            Self::Delta(r) => &r.type_url,
            Self::Sotw(r) => &r.type_url,
        }
    }

    /// The node, present at least on a stream's first request.
    #[must_use]
    pub fn node(&self) -> Option<&Node> {
        match self {
            Self::Delta(r) => r.node.as_ref(),
            Self::Sotw(r) => r.node.as_ref(),
        }
    }
}

/// What a server sends.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// Differences.
    Delta(Box<pb::DeltaDiscoveryResponse>),
    /// The whole set.
    Sotw(Box<pb::DiscoveryResponse>),
}

impl Response {
    /// The resource type this response is about.
    #[must_use]
    pub fn type_url(&self) -> &str {
        match self {
            Self::Delta(r) => &r.type_url,
            Self::Sotw(r) => &r.type_url,
        }
    }

    /// The nonce the client has to quote.
    #[must_use]
    pub fn nonce(&self) -> &str {
        match self {
            Self::Delta(r) => &r.nonce,
            Self::Sotw(r) => &r.nonce,
        }
    }

    /// How many resources it carries.
    #[must_use]
    pub fn resources_len(&self) -> usize {
        match self {
            Self::Delta(r) => r.resources.len(),
            Self::Sotw(r) => r.resources.len(),
        }
    }
}

impl From<pb::DeltaDiscoveryRequest> for Request {
    fn from(request: pb::DeltaDiscoveryRequest) -> Self {
        Self::Delta(Box::new(request))
    }
}
impl From<pb::DiscoveryRequest> for Request {
    fn from(request: pb::DiscoveryRequest) -> Self {
        Self::Sotw(Box::new(request))
    }
}
impl From<pb::DeltaDiscoveryResponse> for Response {
    fn from(response: pb::DeltaDiscoveryResponse) -> Self {
        Self::Delta(Box::new(response))
    }
}
impl From<pb::DiscoveryResponse> for Response {
    fn from(response: pb::DiscoveryResponse) -> Self {
        Self::Sotw(Box::new(response))
    }
}
