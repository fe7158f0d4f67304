//! Where a request came from: `x-forwarded-for`, `x-forwarded-proto`, and what an outside caller may not say.
//!
//! - Reads: `use_remote_address`, `xff_num_trusted_hops`, `skip_xff_append` of the HTTP connection manager.
//! - Rule: at the edge (`use_remote_address`) no address is trusted by being private, and control headers from outside are dropped.
//! - Not here: client certificates (`http/client_cert.rs`).

use crate::http::request::Request;
use lateen_base::headers;
use lateen_http1::Known;
use lateen_plan::http::Hcm;
use std::net::{IpAddr, SocketAddr};

/// Brings the forwarding fields in order; gives the client's address as far as it is trusted.
pub fn apply(hcm: &Hcm, request: &mut Request, peer: SocketAddr, tls: bool) -> SocketAddr {
    let fields = &mut request.head.headers;
    let hops = hcm.xff_num_trusted_hops as usize;
    let proto: &[u8] = if tls { b"https" } else { b"http" };
    let has_proto = fields.known(Known::XForwardedProto).is_some();
    if !hcm.use_remote_address {
        if !has_proto {
            fields.append(headers::FORWARDED_PROTO.as_bytes(), proto);
        }
        request.https = scheme_is_https(request, tls);
        return from_chain(request, hops).map_or(peer, |ip| SocketAddr::new(ip, 0));
    }
    drop_control_headers(request);
    let client = if hops > 0 { from_chain(request, hops - 1).map_or(peer, |ip| SocketAddr::new(ip, 0)) } else { peer };
    let fields = &mut request.head.headers;
    if !hcm.skip_xff_append {
        append_address(fields, peer.ip());
    }
    if hops == 0 || !has_proto {
        fields.set(headers::FORWARDED_PROTO.as_bytes(), proto);
    }
    fields.set(headers::EXTERNAL_ADDRESS.as_bytes(), client.ip().to_canonical().to_string().as_bytes());
    request.https = scheme_is_https(request, tls);
    client
}

/// The scheme is what `x-forwarded-proto` says, else what the connection is.
fn scheme_is_https(request: &Request, tls: bool) -> bool {
    match request.head.headers.known(Known::XForwardedProto) {
        Some(proto) if proto.eq_ignore_ascii_case(b"https") => true,
        Some(proto) if proto.eq_ignore_ascii_case(b"http") => false,
        _ => tls,
    }
}

/// Appends to the last `x-forwarded-for` field, so that there stays one list.
fn append_address(fields: &mut lateen_http1::Headers, ip: IpAddr) {
    let mut list = fields.get_all(b"x-forwarded-for").collect::<Vec<_>>().join(&b","[..]);
    if !list.is_empty() {
        list.push(b',');
    }
    list.extend_from_slice(ip.to_canonical().to_string().as_bytes());
    fields.set(headers::FORWARDED_FOR.as_bytes(), &list);
}

/// The address `hops` places from the right of the whole chain; `None` when the chain is shorter or that place is no address.
fn from_chain(request: &Request, hops: usize) -> Option<IpAddr> {
    let chain: Vec<&[u8]> =
        request.head.headers.get_all(b"x-forwarded-for").flat_map(|value| value.split(|&byte| byte == b',')).map(<[u8]>::trim_ascii).collect();
    let at = chain.len().checked_sub(hops + 1)?;
    std::str::from_utf8(chain.get(at)?).ok()?.parse().ok()
}

/// Fields that steer a proxy; from outside they are an attack or a mistake.
fn drop_control_headers(request: &mut Request) {
    request.head.headers.remove_if(|_, _, known| known == Known::XEnvoy);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(fields: &[(&str, &str)]) -> Request {
        let mut request = Request::default();
        for (name, value) in fields {
            request.head.headers.append(name.as_bytes(), value.as_bytes());
        }
        request
    }

    #[test]
    fn the_place_from_the_right_is_the_trusted_one() {
        let request = request(&[("x-forwarded-for", "1.1.1.1, 2.2.2.2"), ("x-forwarded-for", "3.3.3.3")]);
        assert_eq!(from_chain(&request, 0), "3.3.3.3".parse().ok());
        assert_eq!(from_chain(&request, 2), "1.1.1.1".parse().ok());
        assert_eq!(from_chain(&request, 3), None);
    }

    #[test]
    fn control_headers_from_outside_go_and_others_stay() {
        let mut request = request(&[("x-envoy-retry-on", "5xx"), ("x-envoy-peer-metadata", "x"), ("x-other", "1")]);
        drop_control_headers(&mut request);
        assert_eq!(request.head.headers.iter().count(), 1);
    }

    #[test]
    fn the_peer_joins_one_list() {
        let mut request = request(&[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "2.2.2.2")]);
        append_address(&mut request.head.headers, "::ffff:10.0.0.1".parse().expect("address"));
        assert_eq!(request.head.headers.get_all(b"x-forwarded-for").collect::<Vec<_>>(), [b"1.1.1.1,2.2.2.2,10.0.0.1"]);
    }
}
