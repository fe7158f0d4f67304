//! Faults injected on purpose: delays and aborts.
//!
//! - Reads: `extensions.filters.http.fault.v3.HTTPFault` (Envoy), written from `VirtualService.http[].fault`.
//! - Twin: `kinds/src/virtual_service/fault.rs`.
//! - Rule: pure; the caller draws, waits and answers.
//! - Not here: the answer's text and flags (`proxy/src/filters/fault.rs`).

use crate::fraction::Fraction;
use crate::names::Name;
use crate::rejected::{Invalid, Within};
use crate::request::RequestView;
use crate::string_match::HeaderMatch;
use crate::time::duration;
use lateen_base::headers::DOWNSTREAM_NODE;
use lateen_envoy_api::envoy::extensions::filters::common::fault::v3 as xcommon;
use lateen_envoy_api::envoy::extensions::filters::http::fault::v3 as xfault;
use std::time::Duration;

/// Faults for some requests.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fault {
    /// Wait before the request goes on.
    pub delay: Option<Delay>,
    /// Answer instead of forwarding.
    pub abort: Option<Abort>,
    /// Only requests that match all of these.
    pub headers: Vec<HeaderMatch>,
    /// Only requests to this cluster. Empty: any.
    pub upstream_cluster: Name,
    /// Only requests from these nodes (`x-envoy-downstream-service-node`). Empty: any.
    pub downstream_nodes: Vec<Name>,
    /// Faults at once. `None`: no limit.
    pub max_active_faults: Option<u32>,
}

/// A wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delay {
    /// How long.
    pub duration: Duration,
    /// For which requests.
    pub fraction: Fraction,
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abort {
    /// Which.
    pub status: AbortStatus,
    /// For which requests.
    pub fraction: Fraction,
}

/// Status of an abort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbortStatus {
    /// HTTP status.
    Http(u16),
    /// gRPC status: 200 with a `grpc-status` for gRPC requests, 200 with the body for others.
    Grpc(u32),
}

/// What befalls one request: first the wait, then the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultDecision {
    /// Wait this long.
    pub delay: Option<Duration>,
    /// Then answer this.
    pub abort: Option<AbortStatus>,
}

impl Fault {
    /// What befalls `request` on its way to `cluster`, having drawn two numbers. Pure.
    #[must_use]
    pub fn decide(&self, request: &impl RequestView, cluster: Option<&str>, draws: [u64; 2]) -> FaultDecision {
        if self.delay.is_none() && self.abort.is_none() || !self.applies(request, cluster) {
            return FaultDecision::default();
        }
        let [first, second] = draws;
        FaultDecision {
            delay: self.delay.filter(|d| d.fraction.hit(first)).map(|d| d.duration),
            abort: self.abort.filter(|a| a.fraction.hit(second)).map(|a| a.status),
        }
    }

    fn applies(&self, request: &impl RequestView, cluster: Option<&str>) -> bool {
        let cluster_fits = self.upstream_cluster.is_empty() || cluster == Some(&*self.upstream_cluster);
        let node_fits = self.downstream_nodes.is_empty()
            || request.with_header(DOWNSTREAM_NODE, |node| node.is_some_and(|n| self.downstream_nodes.iter().any(|w| w.as_bytes() == n)));
        cluster_fits && node_fits && self.headers.iter().all(|h| h.is_match(request))
    }

    /// Reads a fault.
    ///
    /// # Errors
    /// Faults steered by request headers, rate limits of answers, a status outside 200…599.
    pub fn from_xds(fault: &xfault::HttpFault) -> Result<Self, Invalid> {
        if fault.response_rate_limit.is_some() {
            return Err(Invalid::unsupported("response_rate_limit", "limiting the answer's rate"));
        }
        Ok(Self {
            delay: fault.delay.as_ref().map(delay).transpose().within("delay")?,
            abort: fault.abort.as_ref().map(abort).transpose().within("abort")?,
            headers: fault.headers.iter().map(HeaderMatch::from_xds).collect::<Result<_, _>>().within("headers")?,
            upstream_cluster: fault.upstream_cluster.as_str().into(),
            downstream_nodes: fault.downstream_nodes.iter().map(|n| n.as_str().into()).collect(),
            max_active_faults: fault.max_active_faults.as_ref().map(|n| n.value),
        })
    }
}

fn delay(delay: &xcommon::FaultDelay) -> Result<Delay, Invalid> {
    use xcommon::fault_delay::FaultDelaySecifier as S;
    let length = match &delay.fault_delay_secifier {
        Some(S::FixedDelay(d)) => duration(d).within("fixed_delay")?,
        Some(S::HeaderDelay(_)) => return Err(Invalid::unsupported("header_delay", "a delay named by the request")),
        None => return Err(Invalid::new("fixed_delay", "is required")),
    };
    Ok(Delay { duration: length, fraction: percentage(delay.percentage.as_ref())? })
}

fn abort(abort: &xfault::FaultAbort) -> Result<Abort, Invalid> {
    use xfault::fault_abort::ErrorType as E;
    let status = match &abort.error_type {
        Some(E::HttpStatus(code)) => match u16::try_from(*code) {
            Ok(code) if (200..600).contains(&code) => AbortStatus::Http(code),
            _ => return Err(Invalid::new("http_status", format!("{code} is outside 200…599"))),
        },
        Some(E::GrpcStatus(code)) => AbortStatus::Grpc(*code),
        Some(E::HeaderAbort(_)) => return Err(Invalid::unsupported("header_abort", "an abort named by the request")),
        None => return Err(Invalid::new("http_status", "is required")),
    };
    Ok(Abort { status, fraction: percentage(abort.percentage.as_ref())? })
}

/// An absent percentage is 0, as in Envoy.
fn percentage(given: Option<&lateen_envoy_api::envoy::r#type::v3::FractionalPercent>) -> Result<Fraction, Invalid> {
    given.map_or(Ok(Fraction::NEVER), Fraction::from_xds).within("percentage")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::PlainRequest;

    fn fault(json: serde_json::Value) -> Result<Fault, Invalid> {
        Fault::from_xds(&serde_json::from_value(json).unwrap())
    }

    #[test]
    fn a_delay_and_an_abort_are_drawn_apart() {
        let json = serde_json::json!({"delay": {"fixed_delay": "2s", "percentage": {"numerator": 50}},
            "abort": {"http_status": 500, "percentage": {"numerator": 50}}});
        let fault = fault(json).unwrap();
        let decide = |draws| fault.decide(&PlainRequest::get("h", "/"), None, draws);
        let both = FaultDecision { delay: Some(Duration::from_secs(2)), abort: Some(AbortStatus::Http(500)) };
        assert_eq!((decide([0, 0]), decide([99, 99])), (both, FaultDecision::default()));
        assert_eq!(decide([0, 99]), FaultDecision { abort: None, ..both });
    }

    #[test]
    fn a_fault_without_a_percentage_never_happens() {
        let fault = fault(serde_json::json!({"abort": {"http_status": 500}})).unwrap();
        assert_eq!(fault.decide(&PlainRequest::get("h", "/"), None, [0, 0]), FaultDecision::default());
    }

    #[test]
    fn a_fault_for_some_headers_leaves_other_requests_alone() {
        let json = serde_json::json!({"abort": {"http_status": 500, "percentage": {"numerator": 100}},
            "headers": [{"name": "end-user", "string_match": {"exact": "jason"}}]});
        let fault = fault(json).unwrap();
        let hit = |request: PlainRequest| fault.decide(&request, None, [0, 0]).abort.is_some();
        assert!(hit(PlainRequest::get("h", "/").with("end-user", "jason")) && !hit(PlainRequest::get("h", "/")));
    }

    #[test]
    fn a_status_that_is_none_is_refused() {
        assert!(fault(serde_json::json!({"abort": {"http_status": 42}})).unwrap_err().why.contains("42"));
    }
}
