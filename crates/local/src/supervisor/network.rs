//! The sandbox's own network: bridge, addresses, translation of Service addresses, redirection of what leaves the mesh.
//!
//! - Rule: [`service_rules`] is pure; the table is replaced as a whole whenever Services or endpoints change.
//! - Rule: a Service's connection goes to one of its ready endpoints at random, and keeps the caller's address.
//! - Limits: IPv4, TCP and UDP.

use lateen_base::ports::{BRIDGE_ADDRESS, DNS_ADDRESS, POD_PREFIX, SERVICE_NETWORK, SERVICE_PREFIX};
use lateen_sys::namespace::Namespaces;
use lateen_sys::nft::{Action, Chain, Hook, Match, Rule, Table};
use lateen_sys::{link, nft};
use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Mutex, PoisonError};

/// The bridge's name.
pub(crate) const BRIDGE: &str = "lateen0";
/// The supervisor's listener for connections that leave the mesh.
pub(crate) const EGRESS_PORT: u16 = 15999;
/// The one table, here and in pods.
pub(crate) const TABLE: &str = "lateen";

/// One address and port of a Service, with the ready endpoints behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VirtualAddress {
    /// The Service's address and port.
    pub address: SocketAddrV4,
    /// 6 for TCP, 17 for UDP.
    pub protocol: u8,
    /// Ready endpoints.
    pub endpoints: Vec<SocketAddrV4>,
}

/// Addresses in use, and the namespace they are reached from.
#[derive(Debug)]
pub(crate) struct Network {
    /// The sandbox's own namespaces.
    pub(crate) root: Namespaces,
    pods: Mutex<Addresses>,
    services: Mutex<Addresses>,
}

impl Network {
    /// Makes the bridge. Call before any runtime exists, in the sandbox's network namespace.
    ///
    /// # Errors
    /// What the kernel reports.
    pub(crate) fn create() -> io::Result<Self> {
        link::loopback_up()?;
        link::bridge(BRIDGE, &[(BRIDGE_ADDRESS, POD_PREFIX), (DNS_ADDRESS, 32)])?;
        link::forward_packets()?;
        nft::replace(&service_rules(&[]))?;
        Ok(Self {
            root: Namespaces::of_this_thread()?,
            // The first pods get .2 and so on; Services start above those that clusters reserve.
            pods: Mutex::new(Addresses::new(network_of(BRIDGE_ADDRESS, POD_PREFIX), POD_PREFIX, 2)),
            services: Mutex::new(Addresses::new(SERVICE_NETWORK, SERVICE_PREFIX, 256)),
        })
    }

    /// An address for a pod; `None` when all are in use. Blocks for a fraction of a millisecond.
    pub(crate) fn take_pod_address(&self) -> Option<Ipv4Addr> {
        let address = self.pods.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        if let Err(error) = self.root.run_in_network(|| link::accept(address)) {
            eprintln!("{address} was in use before and is still refused: {error}");
        }
        Some(address)
    }

    /// Gives a pod's address back, and refuses whoever still calls it. Blocks for a fraction of a millisecond.
    pub(crate) fn release_pod_address(&self, address: Ipv4Addr) {
        if let Err(error) = self.root.run_in_network(|| link::refuse(address)) {
            eprintln!("callers of {address} will wait: {error}");
        }
        self.pods.lock().unwrap_or_else(PoisonError::into_inner).used.remove(&address);
    }

    /// An address for a Service: the wanted one if it is free, else a new one. `None` when that is taken or all are.
    pub(crate) fn take_service_address(&self, wanted: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        match wanted {
            Some(address) => (services.contains(address) && services.used.insert(address)).then_some(address),
            None => services.take(),
        }
    }

    /// Gives a Service's address back.
    pub(crate) fn release_service_address(&self, address: Ipv4Addr) {
        self.services.lock().unwrap_or_else(PoisonError::into_inner).used.remove(&address);
    }

    /// Puts the Services' addresses into force. Blocks for a fraction of a millisecond.
    ///
    /// # Errors
    /// What the kernel reports.
    pub(crate) fn set_services(services: &[VirtualAddress]) -> io::Result<()> {
        nft::replace(&service_rules(services))
    }
}

/// Hands out the addresses of one network in turn, so that one is not given again soon after it was freed.
#[derive(Debug)]
struct Addresses {
    network: u32,
    size: u32,
    next: u32,
    first: u32,
    used: BTreeSet<Ipv4Addr>,
}

impl Addresses {
    fn new(network: Ipv4Addr, prefix: u8, first: u32) -> Self {
        // The last address of a network is its broadcast address.
        let size = (1_u32 << (32 - u32::from(prefix))) - 1;
        Self { network: network.to_bits(), size, next: first, first, used: BTreeSet::new() }
    }

    fn take(&mut self) -> Option<Ipv4Addr> {
        for _ in self.first..self.size {
            let address = Ipv4Addr::from_bits(self.network + self.next);
            self.next = if self.next + 1 < self.size { self.next + 1 } else { self.first };
            if self.used.insert(address) {
                return Some(address);
            }
        }
        None
    }

    fn contains(&self, address: Ipv4Addr) -> bool {
        let offset = address.to_bits().wrapping_sub(self.network);
        offset > 0 && offset < self.size && address != DNS_ADDRESS
    }
}

fn network_of(address: Ipv4Addr, prefix: u8) -> Ipv4Addr {
    Ipv4Addr::from_bits(address.to_bits() & (u32::MAX << (32 - u32::from(prefix))))
}

/// The sandbox's table: Services first, then what stays inside, then everything else to the egress listener.
pub(crate) fn service_rules(services: &[VirtualAddress]) -> Table {
    let mut rules = Vec::new();
    for service in services {
        let left = service.endpoints.len();
        for (index, endpoint) in service.endpoints.iter().enumerate() {
            // One in N, then one in N-1 of the rest: each endpoint gets an equal share.
            let share = Match::OneIn(u32::try_from(left - index).unwrap_or(1));
            let matches = [
                Match::Destination(*service.address.ip(), 32),
                Match::Protocol(service.protocol),
                Match::DestinationPort(service.address.port()),
                share,
            ];
            rules.push(Rule::new(matches, Action::Translate(*endpoint.ip(), endpoint.port())));
        }
    }
    let inside = |address, prefix| Rule::new([Match::Destination(address, prefix)], Action::Accept);
    rules.push(inside(network_of(BRIDGE_ADDRESS, POD_PREFIX), POD_PREFIX));
    rules.push(inside(DNS_ADDRESS, 32));
    rules.push(inside(Ipv4Addr::new(127, 0, 0, 0), 8));
    rules.push(Rule::new([Match::Protocol(PROTOCOL_TCP)], Action::Redirect(EGRESS_PORT)));
    Table { name: TABLE.into(), chains: vec![Chain { name: "services".into(), hook: Hook::Prerouting, rules }] }
}

/// `IPPROTO_TCP`.
pub(crate) const PROTOCOL_TCP: u8 = 6;
/// `IPPROTO_UDP`.
pub(crate) const PROTOCOL_UDP: u8 = 17;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_endpoint_of_a_service_gets_an_equal_share() {
        let service = VirtualAddress {
            address: "10.96.1.0:80".parse().unwrap(),
            protocol: PROTOCOL_TCP,
            endpoints: vec!["10.244.0.2:5678".parse().unwrap(), "10.244.0.3:5678".parse().unwrap()],
        };
        let table = service_rules(&[service]);
        let shares: Vec<_> = table.chains[0].rules.iter().take(2).map(|rule| rule.matches[3]).collect();
        assert_eq!(shares, [Match::OneIn(2), Match::OneIn(1)]);
    }

    #[test]
    fn a_freed_address_is_not_given_again_at_once() {
        let mut addresses = Addresses::new(Ipv4Addr::new(10, 244, 0, 0), 16, 2);
        let first = addresses.take().unwrap();
        addresses.used.remove(&first);
        assert_eq!([first, addresses.take().unwrap()], [Ipv4Addr::new(10, 244, 0, 2), Ipv4Addr::new(10, 244, 0, 3)]);
    }

    #[test]
    fn a_full_network_has_no_address_left() {
        let mut addresses = Addresses::new(Ipv4Addr::new(10, 0, 0, 0), 30, 1);
        assert_eq!([addresses.take(), addresses.take(), addresses.take()].iter().flatten().count(), 2);
    }

    #[test]
    fn the_dns_servers_address_is_no_services() {
        let addresses = Addresses::new(SERVICE_NETWORK, SERVICE_PREFIX, 256);
        assert!(!addresses.contains(DNS_ADDRESS));
        assert!(addresses.contains(Ipv4Addr::new(10, 96, 0, 50)));
        assert!(!addresses.contains(Ipv4Addr::new(10, 97, 0, 1)));
    }
}
