//! Interception: the rules in an injected pod that bring its connections to the proxy, without the application knowing.
//!
//! - Reads: annotations `traffic.sidecar.istio.io/{include,exclude}{InboundPorts,OutboundPorts,OutboundIPRanges}`.
//! - Twin: `proxy/src/listener/original_dst.rs`, which asks where a redirected connection was going.
//! - Source: Istio's `istio-iptables`, with the packet mark in the place of user 1337: one user id is all that an unprivileged sandbox has.
//! - Rule: pure. The proxy's own sockets carry the mark and pass.

use lateen_base::ports::{self, INBOUND_PASSTHROUGH_SOURCE, PROXY_MARK};
use lateen_base::{Code, Finding, annotations};
use lateen_sys::link::LOOPBACK_INDEX;
use lateen_sys::nft::{Action, Chain, Hook, Match, Rule, Table};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::network::{PROTOCOL_TCP, TABLE};

/// The table of an injected pod with these annotations.
///
/// # Errors
/// A finding that names the annotation that cannot be read.
pub(crate) fn rules(notes: &BTreeMap<String, String>) -> Result<Table, Finding> {
    let chains = vec![
        Chain { name: "output".into(), hook: Hook::Output, rules: outbound(notes)? },
        Chain { name: "prerouting".into(), hook: Hook::Prerouting, rules: inbound(notes)? },
    ];
    Ok(Table { name: TABLE.into(), chains })
}

fn outbound(notes: &BTreeMap<String, String>) -> Result<Vec<Rule>, Finding> {
    let mark = Match::Mark(PROXY_MARK);
    let loopback = Match::OutputLink(LOOPBACK_INDEX);
    let accept = |matches: &[Match]| Rule::new(matches, Action::Accept);
    let redirect = |matches: &[Match]| Rule::new([&[Match::Protocol(PROTOCOL_TCP)], matches].concat(), Action::Redirect(ports::OUTBOUND));
    let mut rules = vec![
        accept(&[mark, loopback, Match::Source(INBOUND_PASSTHROUGH_SOURCE, 32)]),
        // The proxy calls its own pod by address: treat it as a call from outside, so that it is encrypted and authorized like one.
        Rule::new([Match::Protocol(PROTOCOL_TCP), mark, loopback, Match::NotDestination(Ipv4Addr::LOCALHOST, 32)], Action::Redirect(ports::INBOUND)),
        accept(&[mark]),
        accept(&[Match::Destination(Ipv4Addr::new(127, 0, 0, 0), 8)]),
        accept(&[loopback]),
    ];
    for port in port_list(notes, annotations::EXCLUDE_OUTBOUND_PORTS)?.ports {
        rules.push(accept(&[Match::Protocol(PROTOCOL_TCP), Match::DestinationPort(port)]));
    }
    for (address, prefix) in ranges(notes, annotations::EXCLUDE_OUTBOUND_RANGES)?.ranges {
        rules.push(accept(&[Match::Destination(address, prefix)]));
    }
    match port_list(notes, annotations::INCLUDE_OUTBOUND_PORTS)? {
        PortList { all: true, .. } => rules.push(redirect(&[])),
        list => rules.extend(list.ports.iter().map(|port| redirect(&[Match::DestinationPort(*port)]))),
    }
    let included = ranges(notes, annotations::INCLUDE_OUTBOUND_RANGES)?;
    if included.all || !notes.contains_key(annotations::INCLUDE_OUTBOUND_RANGES) {
        rules.push(redirect(&[]));
    }
    rules.extend(included.ranges.iter().map(|(address, prefix)| redirect(&[Match::Destination(*address, *prefix)])));
    Ok(rules)
}

fn inbound(notes: &BTreeMap<String, String>) -> Result<Vec<Rule>, Finding> {
    let on_port = |port: u16, action| Rule::new([Match::Protocol(PROTOCOL_TCP), Match::DestinationPort(port)], action);
    let mut rules: Vec<Rule> = ports::INBOUND_NEVER_REDIRECTED.iter().map(|port| on_port(*port, Action::Accept)).collect();
    rules.extend(port_list(notes, annotations::EXCLUDE_INBOUND_PORTS)?.ports.iter().map(|port| on_port(*port, Action::Accept)));
    let included = port_list(notes, annotations::INCLUDE_INBOUND_PORTS)?;
    if included.all || !notes.contains_key(annotations::INCLUDE_INBOUND_PORTS) {
        rules.push(Rule::new([Match::Protocol(PROTOCOL_TCP)], Action::Redirect(ports::INBOUND)));
    }
    rules.extend(included.ports.iter().map(|port| on_port(*port, Action::Redirect(ports::INBOUND))));
    Ok(rules)
}

#[derive(Default)]
struct PortList {
    all: bool,
    ports: Vec<u16>,
}

#[derive(Default)]
struct Ranges {
    all: bool,
    ranges: Vec<(Ipv4Addr, u8)>,
}

fn words<'a>(notes: &'a BTreeMap<String, String>, key: &str) -> impl Iterator<Item = &'a str> {
    notes.get(key).map_or("", String::as_str).split(',').map(str::trim).filter(|word| !word.is_empty())
}

fn port_list(notes: &BTreeMap<String, String>, key: &'static str) -> Result<PortList, Finding> {
    let mut list = PortList::default();
    for word in words(notes, key) {
        match word {
            "*" => list.all = true,
            _ => list.ports.push(word.parse().map_err(|_| unreadable(key, word, "`*` or ports such as `80,8080`"))?),
        }
    }
    Ok(list)
}

fn ranges(notes: &BTreeMap<String, String>, key: &'static str) -> Result<Ranges, Finding> {
    let mut ranges = Ranges::default();
    for word in words(notes, key) {
        match word {
            "*" => ranges.all = true,
            _ => ranges.ranges.push(range(word).ok_or_else(|| unreadable(key, word, "`*` or IPv4 ranges such as `10.0.0.0/8`"))?),
        }
    }
    Ok(ranges)
}

fn range(word: &str) -> Option<(Ipv4Addr, u8)> {
    let (address, prefix) = word.split_once('/').unwrap_or((word, "32"));
    let prefix = prefix.parse().ok().filter(|prefix| *prefix <= 32)?;
    Some((address.parse().ok()?, prefix))
}

fn unreadable(key: &str, word: &str, wanted: &str) -> Finding {
    Finding::new(Code::InvalidValue, format!("annotation {key}: `{word}` cannot be read"))
        .with_path(format!("metadata.annotations[{key}]"))
        .with_remedy(format!("give {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notes(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn chain(notes: &BTreeMap<String, String>, name: &str) -> Vec<Rule> {
        rules(notes).unwrap().chains.into_iter().find(|chain| chain.name == name).unwrap().rules
    }

    #[test]
    fn without_annotations_all_tcp_is_redirected_both_ways() {
        let last = |name| chain(&notes(&[]), name).pop().unwrap();
        assert_eq!(last("output"), Rule::new([Match::Protocol(PROTOCOL_TCP)], Action::Redirect(15001)));
        assert_eq!(last("prerouting"), Rule::new([Match::Protocol(PROTOCOL_TCP)], Action::Redirect(15006)));
    }

    #[test]
    fn excluded_ports_and_ranges_come_before_the_redirection() {
        let rules = chain(&notes(&[(annotations::EXCLUDE_OUTBOUND_PORTS, "5432, 6379"), (annotations::EXCLUDE_OUTBOUND_RANGES, "192.0.2.0/24")]), "output");
        let accepted = [
            Rule::new([Match::Protocol(PROTOCOL_TCP), Match::DestinationPort(5432)], Action::Accept),
            Rule::new([Match::Protocol(PROTOCOL_TCP), Match::DestinationPort(6379)], Action::Accept),
            Rule::new([Match::Destination(Ipv4Addr::new(192, 0, 2, 0), 24)], Action::Accept),
        ];
        assert_eq!(rules[5..8], accepted);
    }

    #[test]
    fn with_included_ranges_only_those_are_redirected() {
        let rules = chain(&notes(&[(annotations::INCLUDE_OUTBOUND_RANGES, "10.96.0.0/16")]), "output");
        assert_eq!(rules.iter().filter(|rule| rule.action == Action::Redirect(15001)).count(), 1);
    }

    #[test]
    fn with_an_empty_list_nothing_is_redirected() {
        assert!(chain(&notes(&[(annotations::INCLUDE_INBOUND_PORTS, "")]), "prerouting").iter().all(|rule| rule.action == Action::Accept));
        assert!(chain(&notes(&[(annotations::INCLUDE_OUTBOUND_RANGES, "")]), "output").iter().all(|rule| rule.action != Action::Redirect(15001)));
    }

    #[test]
    fn an_annotation_that_cannot_be_read_is_named() {
        let finding = rules(&notes(&[(annotations::EXCLUDE_INBOUND_PORTS, "http")])).unwrap_err();
        assert!(finding.to_string().contains("excludeInboundPorts: `http`"), "{finding}");
    }
}
