//! Choosing the filter chain of a connection.
//!
//! - Reads: `config.listener.v3.FilterChainMatch` (Envoy).
//! - Rule: Envoy's order: destination port, destination address, server name, transport protocol, application protocol,
//!   direct source address, source type, source address, source port. Each step keeps only the chains that fit best;
//!   a later step never brings back what an earlier one dropped.
//! - Limits: linear in the chains of one port; chosen once per connection.

use super::{FilterChain, Listener};
use crate::names::Name;
use crate::rejected::{Invalid, Within};
use crate::trace::{Silent, Tracer};
use ipnet::IpNet;
use lateen_envoy_api::envoy::config::core::v3::CidrRange;
use lateen_envoy_api::envoy::config::listener::v3 as xlistener;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Which connections a chain takes. An empty list or name: any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChainMatch {
    /// Destination port.
    pub destination_port: Option<u16>,
    /// Destination addresses.
    pub prefix_ranges: Vec<IpNet>,
    /// Server names in lower case, `*.suffix` among them.
    pub server_names: Vec<Name>,
    /// `tls` or `raw_buffer`.
    pub transport_protocol: Name,
    /// ALPN, or what the HTTP inspector found.
    pub application_protocols: Vec<Name>,
    /// Addresses of the socket's peer.
    pub direct_source_prefix_ranges: Vec<IpNet>,
    /// Whether the source is local.
    pub source_type: SourceType,
    /// Addresses of the client.
    pub source_prefix_ranges: Vec<IpNet>,
    /// Ports of the client.
    pub source_ports: Vec<u16>,
}

/// Whether a connection comes from the same machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceType {
    /// Either.
    #[default]
    Any,
    /// From loopback, or from the destination's own address.
    SameIpOrLoopback,
    /// From elsewhere.
    External,
}

/// What is known of a connection once the listener filters have looked.
#[derive(Clone, Copy, Debug)]
pub struct ConnInfo<'a> {
    /// The (original) destination.
    pub destination: SocketAddr,
    /// The socket's peer.
    pub direct_source: SocketAddr,
    /// The client: the same, unless a PROXY header said otherwise.
    pub source: SocketAddr,
    /// Server name, empty: none.
    pub server_name: &'a str,
    /// `tls` or `raw_buffer`.
    pub transport_protocol: &'a str,
    /// Protocols offered by ALPN, or found by the HTTP inspector, in order.
    pub application_protocols: &'a [&'a str],
}

/// Chains by destination port, built once.
#[derive(Debug, Default)]
pub struct ChainIndex {
    by_port: HashMap<u16, Vec<u32>>,
    any_port: Vec<u32>,
}

impl ChainIndex {
    /// Indexes `chains`.
    ///
    /// # Errors
    /// Two chains with one match.
    pub(super) fn new(chains: &[Arc<FilterChain>]) -> Result<Self, Invalid> {
        let mut index = Self::default();
        for (at, chain) in (0u32..).zip(chains) {
            let before = chains.iter().take(at as usize);
            if let Some(twin) = before.into_iter().find(|other| other.matches == chain.matches) {
                let why = format!("`{}` and `{}` match the same connections", twin.name, chain.name);
                return Err(Invalid::new(format!("filter_chains[{at}].filter_chain_match"), why));
            }
            match chain.matches.destination_port {
                Some(port) => index.by_port.entry(port).or_default().push(at),
                None => index.any_port.push(at),
            }
        }
        Ok(index)
    }
}

/// The chain for a connection, or `None`: it is closed (`NR filter_chain_not_found`). Pure.
#[must_use]
pub fn select_chain<'a>(listener: &'a Listener, conn: &ConnInfo<'_>) -> Option<&'a Arc<FilterChain>> {
    select_chain_traced(listener, conn, &mut Silent)
}

/// The same, telling `tracer` what each step keeps.
pub fn select_chain_traced<'a>(listener: &'a Listener, conn: &ConnInfo<'_>, tracer: &mut impl Tracer) -> Option<&'a Arc<FilterChain>> {
    let index = &listener.chain_index;
    let candidates = index.by_port.get(&conn.destination.port()).unwrap_or(&index.any_port);
    let chain = |at: u32| listener.filter_chains.get(at as usize);
    let mut kept: Vec<&'a Arc<FilterChain>> = candidates.iter().filter_map(|at| chain(*at)).collect();
    tracer.note(|| format!("destination port {}: {}", conn.destination.port(), names(&kept)));
    let local = is_local(conn);
    for (step, rank) in STEPS {
        // Each step sorts the remaining chains by how closely they fit and keeps the closest.
        let best = kept.iter().filter_map(|c| rank(&c.matches, conn, local)).max();
        kept.retain(|c| best.is_some() && rank(&c.matches, conn, local) == best);
        tracer.note(|| format!("{step}: {}", names(&kept)));
        if kept.is_empty() {
            break;
        }
    }
    let found = kept.first().copied().or(listener.default_filter_chain.as_ref());
    tracer.note(|| found.map_or_else(|| "no filter chain takes it".to_owned(), |c| format!("filter chain `{}` takes it", c.name)));
    found
}

fn names(chains: &[&Arc<FilterChain>]) -> String {
    if chains.is_empty() {
        return "no chain left".to_owned();
    }
    chains.iter().map(|c| format!("`{}`", c.name)).collect::<Vec<_>>().join(", ")
}

/// How closely a chain fits at one step; `None`: not at all.
type Rank = fn(&ChainMatch, &ConnInfo<'_>, bool) -> Option<usize>;

const STEPS: [(&str, Rank); 8] = [
    ("destination address", |m, c, _| ranges(&m.prefix_ranges, c.destination.ip())),
    ("server name", |m, c, _| server_name(&m.server_names, c.server_name)),
    ("transport protocol", |m, c, _| transport(&m.transport_protocol, c.transport_protocol)),
    ("application protocol", |m, c, _| application(&m.application_protocols, c.application_protocols)),
    ("direct source address", |m, c, _| ranges(&m.direct_source_prefix_ranges, c.direct_source.ip())),
    ("source type", |m, _, local| source_type(m.source_type, local)),
    ("source address", |m, c, _| ranges(&m.source_prefix_ranges, c.source.ip())),
    ("source port", |m, c, _| match m.source_ports.is_empty() {
        true => Some(0),
        false => m.source_ports.contains(&c.source.port()).then_some(1),
    }),
];

fn ranges(wanted: &[IpNet], address: IpAddr) -> Option<usize> {
    let address = address.to_canonical();
    if wanted.is_empty() {
        return Some(0);
    }
    wanted.iter().filter(|net| net.contains(&address)).map(|net| usize::from(net.prefix_len()) + 1).max()
}

fn server_name(wanted: &[Name], name: &str) -> Option<usize> {
    if wanted.is_empty() {
        return Some(0);
    }
    let fits = |want: &Name| match want.strip_prefix('*') {
        // `.suffix` with its dot; more letters fit more closely.
        Some(suffix) => {
            let head = name.len().checked_sub(suffix.len())?;
            (head > 0 && name.get(head..)?.eq_ignore_ascii_case(suffix)).then_some(suffix.len())
        }
        None => name.eq_ignore_ascii_case(want).then_some(usize::MAX),
    };
    wanted.iter().filter_map(fits).max()
}

fn transport(wanted: &str, found: &str) -> Option<usize> {
    if wanted.is_empty() { Some(0) } else { (wanted == found).then_some(1) }
}

fn application(wanted: &[Name], offered: &[&str]) -> Option<usize> {
    if wanted.is_empty() {
        return Some(0);
    }
    // The client's first choice that any chain serves decides.
    offered.iter().position(|o| wanted.iter().any(|w| &**w == *o)).map(|at| offered.len() - at)
}

fn source_type(wanted: SourceType, local: bool) -> Option<usize> {
    match wanted {
        SourceType::Any => Some(0),
        SourceType::SameIpOrLoopback => local.then_some(1),
        SourceType::External => (!local).then_some(1),
    }
}

fn is_local(conn: &ConnInfo<'_>) -> bool {
    let source = conn.source.ip().to_canonical();
    source.is_loopback() || source == conn.destination.ip().to_canonical()
}

impl ChainMatch {
    /// Reads the conditions.
    ///
    /// # Errors
    /// A malformed range or port; a wildcard in the middle of a server name; an address suffix.
    pub fn from_xds(given: &xlistener::FilterChainMatch) -> Result<Self, Invalid> {
        use xlistener::filter_chain_match::ConnectionSourceType as S;
        if given.suffix_len.is_some() || !given.address_suffix.is_empty() {
            return Err(Invalid::unsupported("address_suffix", "matching by the end of an address"));
        }
        let port = |port: u32, field: &str| u16::try_from(port).map_err(|_| Invalid::new(field, format!("{port} is above 65535")));
        let nets = |list: &[CidrRange], field: &str| list.iter().map(crate::rbac::cidr).collect::<Result<Vec<_>, _>>().within(field);
        let mut server_names = Vec::with_capacity(given.server_names.len());
        for name in &given.server_names {
            let rest = name.strip_prefix("*.").unwrap_or(name);
            if rest.contains('*') {
                return Err(Invalid::new("server_names", format!("`{name}`: only a whole first label may be `*`")));
            }
            server_names.push(name.to_ascii_lowercase().into());
        }
        Ok(Self {
            destination_port: given.destination_port.as_ref().map(|p| port(p.value, "destination_port")).transpose()?,
            prefix_ranges: nets(&given.prefix_ranges, "prefix_ranges")?,
            server_names,
            transport_protocol: given.transport_protocol.as_str().into(),
            application_protocols: given.application_protocols.iter().map(|p| p.as_str().into()).collect(),
            direct_source_prefix_ranges: nets(&given.direct_source_prefix_ranges, "direct_source_prefix_ranges")?,
            source_type: match S::try_from(given.source_type) {
                Ok(S::Any) => SourceType::Any,
                Ok(S::SameIpOrLoopback) => SourceType::SameIpOrLoopback,
                Ok(S::External) => SourceType::External,
                Err(_) => return Err(Invalid::new("source_type", format!("{} is not known", given.source_type))),
            },
            source_prefix_ranges: nets(&given.source_prefix_ranges, "source_prefix_ranges")?,
            source_ports: given.source_ports.iter().map(|p| port(*p, "source_ports")).collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::{DownstreamTransport, ListenAddress, TcpCluster, TcpProxy, Terminal};

    fn chain(name: &str, matches: ChainMatch) -> Arc<FilterChain> {
        let tcp = TcpProxy {
            stat_prefix: "".into(),
            cluster: TcpCluster::One("c".into()),
            idle_timeout: None,
            max_connect_attempts: 1,
            max_downstream_connection_duration: None,
            access_logs: Vec::new(),
            hash_source_ip: false,
        };
        Arc::new(FilterChain {
            name: name.into(),
            matches,
            transport: DownstreamTransport::Raw,
            transport_connect_timeout: None,
            network_filters: Vec::new(),
            terminal: Terminal::TcpProxy(Arc::new(tcp)),
        })
    }

    fn listener(chains: Vec<Arc<FilterChain>>) -> Listener {
        Listener {
            name: "l".into(),
            address: ListenAddress::Socket("0.0.0.0:9999".parse().unwrap()),
            bind_to_port: true,
            direction: crate::listener::Direction::Inbound,
            use_original_dst: false,
            listener_filters: Vec::new(),
            listener_filters_timeout: None,
            continue_on_listener_filters_timeout: false,
            chain_index: ChainIndex::new(&chains).unwrap(),
            filter_chains: chains,
            default_filter_chain: None,
            socket_options: Vec::new(),
            tcp_backlog: None,
            per_connection_buffer_bytes_max: 0,
            access_logs: Vec::new(),
            stat_prefix: "".into(),
        }
    }

    fn chosen(listener: &Listener, port: u16, transport: &str, alpn: &[&str], sni: &str) -> Option<String> {
        let conn = ConnInfo {
            destination: SocketAddr::new("10.0.0.1".parse().unwrap(), port),
            direct_source: "10.0.0.2:999".parse().unwrap(),
            source: "10.0.0.2:999".parse().unwrap(),
            server_name: sni,
            transport_protocol: transport,
            application_protocols: alpn,
        };
        select_chain(listener, &conn).map(|c| c.name.to_string())
    }

    fn tls(alpn: &[&str]) -> ChainMatch {
        ChainMatch {
            transport_protocol: "tls".into(),
            application_protocols: alpn.iter().map(|a| Name::from(*a)).collect(),
            ..ChainMatch::default()
        }
    }

    #[test]
    fn permissive_inbound_tells_mutual_tls_from_other_tls_and_plaintext() {
        let raw = ChainMatch { transport_protocol: "raw_buffer".into(), ..ChainMatch::default() };
        let port = ChainMatch { destination_port: Some(9080), ..raw.clone() };
        let listener = listener(vec![chain("mtls", tls(&["istio", "istio-http/1.1"])), chain("tls", tls(&[])), chain("raw", raw), chain("port", port)]);
        assert_eq!(chosen(&listener, 80, "tls", &["istio-http/1.1"], ""), Some("mtls".into()));
        assert_eq!(chosen(&listener, 80, "tls", &["h2"], ""), Some("tls".into()));
        assert_eq!(chosen(&listener, 80, "raw_buffer", &[], ""), Some("raw".into()));
        assert_eq!(chosen(&listener, 9080, "raw_buffer", &[], ""), Some("port".into()));
    }

    #[test]
    fn a_port_with_chains_of_its_own_never_falls_back() {
        let strict = ChainMatch { destination_port: Some(9080), ..tls(&[]) };
        let listener = listener(vec![chain("strict", strict), chain("any", ChainMatch::default())]);
        assert_eq!(chosen(&listener, 9080, "raw_buffer", &[], ""), None);
    }

    #[test]
    fn the_closest_server_name_wins() {
        let sni = |name: &str| ChainMatch { server_names: vec![name.into()], ..ChainMatch::default() };
        let listener = listener(vec![chain("com", sni("*.com")), chain("example", sni("*.example.com")), chain("a", sni("a.example.com"))]);
        assert_eq!(chosen(&listener, 443, "tls", &[], "a.example.com"), Some("a".into()));
        assert_eq!(chosen(&listener, 443, "tls", &[], "B.example.com"), Some("example".into()));
        assert_eq!(chosen(&listener, 443, "tls", &[], "x.com"), Some("com".into()));
        assert_eq!(chosen(&listener, 443, "tls", &[], ""), None);
    }

    #[test]
    fn the_longest_address_range_wins() {
        let net = |range: &str| ChainMatch { prefix_ranges: vec![range.parse().unwrap()], ..ChainMatch::default() };
        let listener = listener(vec![chain("wide", net("10.0.0.0/8")), chain("host", net("10.0.0.1/32"))]);
        assert_eq!(chosen(&listener, 80, "raw_buffer", &[], ""), Some("host".into()));
    }

    #[test]
    fn two_chains_with_one_match_are_refused() {
        let chains = [chain("a", ChainMatch::default()), chain("b", ChainMatch::default())];
        assert!(ChainIndex::new(&chains).unwrap_err().why.contains("`a` and `b`"));
    }
}
