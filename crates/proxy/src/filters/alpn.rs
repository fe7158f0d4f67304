//! Istio's ALPN filter: which protocols are offered to the endpoint, by the HTTP version spoken to it.
//!
//! - Reads: `plan::http::AlpnOverride`.
//! - Rule: the list is made once per connection and version, because pools compare it.
//! - Not here: the handshake (`transport/tls.rs`).

use crate::http::request::Protocol;
use crate::http::router::Target;
use crate::http::stream::Rules;
use lateen_plan::cluster::UpstreamProtocol;
use lateen_plan::http::{AlpnOverride, HttpFilter};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// The lists a downstream connection has needed so far: at most one per version.
#[derive(Default)]
pub(crate) struct Lists(RefCell<Vec<Made>>);

/// A list made of the settings for one version.
struct Made {
    settings: Arc<AlpnOverride>,
    h2: bool,
    list: Rc<[Vec<u8>]>,
}

/// The list for a request, `None`: the cluster's own.
pub(crate) fn list(rules: &Rules<'_>, target: &Target<'_>, protocol: Protocol) -> Option<Rc<[Vec<u8>]>> {
    let settings = rules.hcm.filters.iter().find_map(|filter| match filter {
        HttpFilter::Alpn(settings) => Some(settings),
        _ => None,
    })?;
    let h2 = match target.cluster.plan.http.protocol {
        UpstreamProtocol::Http1 | UpstreamProtocol::Auto => false,
        UpstreamProtocol::Http2 => true,
        UpstreamProtocol::UseDownstream => protocol == Protocol::Http2,
    };
    let names = if h2 { &settings.http2 } else { &settings.http11 };
    if names.is_empty() {
        return None;
    }
    let mut lists = rules.origin.alpn.0.borrow_mut();
    if let Some(made) = lists.iter().find(|made| Arc::ptr_eq(&made.settings, settings) && made.h2 == h2) {
        return Some(Rc::clone(&made.list));
    }
    let list: Rc<[Vec<u8>]> = names.iter().map(|name| name.as_bytes().to_vec()).collect();
    lists.retain(|made| Arc::ptr_eq(&made.settings, settings));
    lists.push(Made { settings: Arc::clone(settings), h2, list: Rc::clone(&list) });
    Some(list)
}
