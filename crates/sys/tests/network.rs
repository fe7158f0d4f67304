//! Links, rules and redirection in real namespaces. Needs root, or a user namespace that a caller made; says so and passes where neither is there.

use lateen_sys::namespace::Namespaces;
use lateen_sys::nft::{self, Action, Chain, Hook, Match, Rule, Table};
use lateen_sys::{link, mount, socket};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 2);
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 3);
const VIRTUAL: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 7);
const TCP: u8 = 6;

fn privileged() -> bool {
    let allowed = Namespaces::create(|| Ok(())).is_ok();
    if !allowed {
        eprintln!("skipped: this user may not make network namespaces");
    }
    allowed
}

fn outside() -> Namespaces {
    let (outside, ()) = Namespaces::create(|| {
        mount::make_private()?;
        link::loopback_up()?;
        link::bridge("lateen0", &[(GATEWAY, 16)])?;
        link::forward_packets()
    })
    .unwrap();
    outside
}

fn pod(outside: &Namespaces, name: &str, address: Ipv4Addr) -> Namespaces {
    let (pod, ()) = Namespaces::create(|| {
        link::loopback_up()?;
        link::pod_link(outside.net.as_fd(), name, address, GATEWAY)
    })
    .unwrap();
    outside.run_in_network(|| link::attach(name, "lateen0")).unwrap();
    assert!(outside.run_in_network(|| link::until_up(name, Duration::from_secs(5))).unwrap());
    assert!(pod.run_in_network(|| link::until_up(link::POD_LINK, Duration::from_secs(5))).unwrap());
    pod
}

fn listener(pod: &Namespaces, address: SocketAddr) -> TcpListener {
    pod.run_in_network(|| TcpListener::bind(address)).unwrap()
}

/// Accepts one connection, answers with where it was going, and returns that.
fn answer(listener: TcpListener) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let (mut stream, peer) = listener.accept().unwrap();
        let original = socket::original_destination(&stream).map_or_else(|error| error.to_string(), |address| address.to_string());
        stream.write_all(format!("{} {original}", peer.ip()).as_bytes()).unwrap();
        original
    })
}

fn call(pod: &Namespaces, to: SocketAddr, marked: bool) -> io::Result<String> {
    pod.run_in_network(|| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        if marked {
            socket::mark_as_proxy(&socket)?;
        }
        socket.connect(&to.into())?;
        let mut text = String::new();
        TcpStream::from(socket).read_to_string(&mut text)?;
        Ok(text)
    })
}

#[test]
fn unmarked_connections_are_redirected_and_marked_ones_are_not() {
    if !privileged() {
        return;
    }
    let outside = outside();
    let (client, server) = (pod(&outside, "v1", FIRST), pod(&outside, "v2", SECOND));
    let table = Table {
        name: "lateen".into(),
        chains: vec![Chain {
            name: "output".into(),
            hook: Hook::Output,
            rules: vec![Rule::new([Match::Mark(1337)], Action::Accept), Rule::new([Match::Protocol(TCP)], Action::Redirect(15001))],
        }],
    };
    client.run_in_network(|| nft::replace(&table)).unwrap();
    client.run_in_network(|| nft::replace(&table)).unwrap();
    assert_eq!(client.run_in_network(nft::tables).unwrap(), ["lateen"]);

    let proxy = answer(listener(&client, "0.0.0.0:15001".parse().unwrap()));
    let text = call(&client, (SECOND, 80).into(), false).unwrap();
    assert_eq!(text, format!("{FIRST} {SECOND}:80"));
    proxy.join().unwrap();

    let direct = answer(listener(&server, "0.0.0.0:80".parse().unwrap()));
    let text = call(&client, (SECOND, 80).into(), true).unwrap();
    assert!(text.starts_with(&format!("{FIRST} ")), "{text}");
    direct.join().unwrap();

    client.run_in_network(|| nft::delete("lateen")).unwrap();
    assert!(client.run_in_network(nft::tables).unwrap().is_empty());
}

#[test]
fn a_virtual_address_reaches_a_pod_on_the_same_bridge_with_the_callers_address() {
    if !privileged() {
        return;
    }
    let outside = outside();
    let (client, server) = (pod(&outside, "v1", FIRST), pod(&outside, "v2", SECOND));
    let table = Table {
        name: "lateen".into(),
        chains: vec![Chain {
            name: "services".into(),
            hook: Hook::Prerouting,
            rules: vec![Rule::new(
                [Match::Destination(VIRTUAL, 32), Match::Protocol(TCP), Match::DestinationPort(80), Match::OneIn(1)],
                Action::Translate(SECOND, 5678),
            )],
        }],
    };
    outside.run_in_network(|| nft::replace(&table)).unwrap();
    let served = answer(listener(&server, "0.0.0.0:5678".parse().unwrap()));
    let text = call(&client, (VIRTUAL, 80).into(), false).unwrap();
    assert!(text.starts_with(&format!("{FIRST} ")), "{text}");
    served.join().unwrap();
}

#[test]
fn an_address_that_has_gone_is_refused_at_once_and_can_come_back() {
    if !privileged() {
        return;
    }
    let outside = outside();
    let client = pod(&outside, "v1", FIRST);
    outside.run_in_network(|| link::refuse(SECOND)).unwrap();
    let error = call(&client, (SECOND, 80).into(), false).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    outside.run_in_network(|| link::accept(SECOND)).unwrap();
    outside.run_in_network(|| link::accept(SECOND)).unwrap();
    let server = pod(&outside, "v2", SECOND);
    let served = answer(listener(&server, "0.0.0.0:80".parse().unwrap()));
    assert!(call(&client, (SECOND, 80).into(), false).is_ok());
    served.join().unwrap();
}

#[test]
fn closing_a_pods_namespaces_takes_its_link_away() {
    if !privileged() {
        return;
    }
    let outside = outside();
    let before = outside.run_in_network(link::names).unwrap();
    let client = pod(&outside, "v1", FIRST);
    assert!(outside.run_in_network(link::names).unwrap().contains(&"v1".to_owned()));
    drop(client);
    // The kernel frees a namespace in the background: wait for it as long as it takes, the test runner limits the time.
    while outside.run_in_network(link::names).unwrap() != before {
        std::thread::yield_now();
    }
}

/// What the pod believes the gateway's hardware address is.
fn gateway_of(pod: &Namespaces) -> String {
    pod.run_in_network(|| {
        // Refused or not, the question for the address has been asked.
        let _ = TcpStream::connect_timeout(&SocketAddr::from((GATEWAY, 9)), Duration::from_secs(2));
        let table = std::fs::read_to_string("/proc/thread-self/net/arp")?;
        let row = table.lines().find(|line| line.starts_with("10.244.0.1 ")).unwrap_or_default();
        Ok(row.split_whitespace().nth(3).unwrap_or_default().to_owned())
    })
    .unwrap()
}

#[test]
fn the_gateways_hardware_address_stays_while_pods_come() {
    if !privileged() {
        return;
    }
    let outside = outside();
    let first = pod(&outside, "pod-a", FIRST);
    let before = gateway_of(&first);
    let others: Vec<Namespaces> = (1..9).map(|n| pod(&outside, &format!("pod-b{n}"), Ipv4Addr::new(10, 244, 1, n))).collect();
    assert!(!before.is_empty());
    assert_eq!(others.last().map(gateway_of), Some(before), "pods that came early would send to nobody");
}
