//! Links, addresses and routes by netlink.
//!
//! - Reads: rtnetlink(7).
//! - Rule: a pod has one address of prefix 32 and reaches everything, other pods too, through the bridge as its gateway, so that address
//!   translation for Services sees both directions of every connection.
//! - Limits: IPv4.

use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkMessage, State};
use rtnetlink::packet_route::route::{RouteMessage, RouteScope, RouteType};
use rtnetlink::{Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};
use futures::TryStreamExt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

/// Index of `lo` in every network namespace.
pub const LOOPBACK_INDEX: u32 = 1;

/// Brings `lo` up in the calling thread's network namespace.
///
/// # Errors
/// What the kernel reports.
pub fn loopback_up() -> io::Result<()> {
    with_handle(async |handle| handle.link().change(LinkUnspec::new_with_index(LOOPBACK_INDEX).up().build()).execute().await)
}

/// Makes a bridge with `addresses` (address, prefix length) in the calling thread's network namespace and brings it up.
///
/// Its hardware address is fixed. Left to itself a bridge takes the lowest of its ports', so it would change as pods come and go, and
/// every pod would send to the old one until its neighbour entry runs out: seconds of lost packets.
///
/// # Errors
/// What the kernel reports; `EEXIST` when the name is taken.
pub fn bridge(name: &str, addresses: &[(Ipv4Addr, u8)]) -> io::Result<()> {
    with_handle(async |handle| handle.link().add(LinkBridge::new(name).address(BRIDGE_HARDWARE_ADDRESS.to_vec()).up().build()).execute().await)?;
    let index = index_of(name)?;
    for (address, prefix) in addresses {
        with_handle(async |handle| handle.address().add(index, IpAddr::V4(*address), *prefix).execute().await)?;
    }
    Ok(())
}

/// Connects the calling thread's network namespace to that of `outside`: `eth0` here, `outer_name` there.
///
/// `eth0` gets `address`/32 and a default route through `gateway`. The outer end must then be attached: [`attach`].
///
/// # Errors
/// What the kernel reports.
pub fn pod_link(outside: BorrowedFd<'_>, outer_name: &str, address: Ipv4Addr, gateway: Ipv4Addr) -> io::Result<()> {
    let mut peer = LinkMessage::default();
    peer.attributes = vec![LinkAttribute::IfName(outer_name.to_owned()), LinkAttribute::NetNsFd(outside.as_raw_fd())];
    let pair = LinkMessageBuilder::<LinkVeth>::new(POD_LINK, outer_name).set_info_data(InfoData::Veth(InfoVeth::Peer(peer))).up().build();
    with_handle(async |handle| handle.link().add(pair).execute().await)?;
    let index = index_of(POD_LINK)?;
    let to_gateway = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(gateway, 32).output_interface(index).scope(RouteScope::Link).build();
    let default: RouteMessage = RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).output_interface(index).build();
    with_handle(async |handle| {
        handle.address().add(index, IpAddr::V4(address), 32).execute().await?;
        handle.route().add(to_gateway).execute().await?;
        handle.route().add(default).execute().await
    })
}

/// Puts the link `name` under the bridge and brings it up, in the calling thread's network namespace.
///
/// # Errors
/// What the kernel reports.
pub fn attach(name: &str, bridge: &str) -> io::Result<()> {
    let index = index_of(bridge)?;
    with_handle(async |handle| handle.link().change(LinkUnspec::new_with_name(name).controller(index).up().build()).execute().await)
}

/// Waits until the link `name` of the calling thread's network namespace carries packets; false when it does not within `limit`.
///
/// The kernel starts a link's queue a moment after its other end came up, and drops what is sent until then.
///
/// # Errors
/// What the kernel reports.
pub fn until_up(name: &str, limit: Duration) -> io::Result<bool> {
    let begin = Instant::now();
    let mut is_up = false;
    with_handle(async |handle| {
        while begin.elapsed() < limit {
            let mut found = handle.link().get().match_name(name.to_owned()).execute();
            let link = found.try_next().await?;
            is_up = link.is_some_and(|link| link.attributes.contains(&LinkAttribute::OperState(State::Up)));
            if is_up {
                return Ok(());
            }
            tokio::time::sleep(UP_LOOK).await;
        }
        Ok(())
    })?;
    Ok(is_up)
}

/// Locally administered, unicast.
const BRIDGE_HARDWARE_ADDRESS: [u8; 6] = [0x02, 0x6c, 0x61, 0x74, 0x65, 0x01];

/// How often to look whether a link is up.
const UP_LOOK: Duration = Duration::from_millis(1);

/// Answers everything that is sent to `address` as a machine without open ports does, in the calling thread's network namespace.
///
/// Without it a caller of an address that has gone waits seconds for an answer to its ARP question. An `unreachable` route would not
/// do: the kernel tells each caller of it once a second at most.
///
/// # Errors
/// What the kernel reports; `EEXIST` when it is so already.
pub fn refuse(address: Ipv4Addr) -> io::Result<()> {
    let route = here(address);
    with_handle(async |handle| handle.route().add(route).execute().await)
}

/// Takes [`refuse`] back. No error when there is nothing to take back.
///
/// # Errors
/// What the kernel reports.
pub fn accept(address: Ipv4Addr) -> io::Result<()> {
    let route = here(address);
    match with_handle(async |handle| handle.route().del(route).execute().await) {
        Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => Ok(()),
        done => done,
    }
}

/// The route that makes an address one of this namespace's own.
fn here(address: Ipv4Addr) -> RouteMessage {
    let route = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(address, 32).kind(RouteType::Local);
    route.scope(RouteScope::Host).table_id(TABLE_LOCAL).output_interface(LOOPBACK_INDEX).build()
}

/// `RT_TABLE_LOCAL`, which is asked first.
const TABLE_LOCAL: u32 = 255;

/// Names of all links in the calling thread's network namespace.
///
/// # Errors
/// What the kernel reports.
pub fn names() -> io::Result<Vec<String>> {
    Ok(nix::net::if_::if_nameindex()?.iter().map(|link| link.name().to_string_lossy().into_owned()).collect())
}

/// Lets the calling thread's network namespace forward packets between pods.
///
/// # Errors
/// When `/proc/sys` is read-only.
pub fn forward_packets() -> io::Result<()> {
    fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
    // Pods are all on one bridge; a redirect would tell them to bypass the translation of Service addresses.
    fs::write("/proc/sys/net/ipv4/conf/all/send_redirects", "0")?;
    fs::write("/proc/sys/net/ipv4/conf/default/send_redirects", "0")
}

/// Name of a pod's own link.
pub const POD_LINK: &str = "eth0";

fn index_of(name: &str) -> io::Result<u32> {
    nix::net::if_::if_nametoindex(name).map_err(io::Error::from)
}

/// Runs netlink requests on a small runtime of the calling thread, whose network namespace they act on.
fn with_handle(work: impl AsyncFnOnce(Handle) -> Result<(), rtnetlink::Error>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        let driver = tokio::spawn(connection);
        let result = work(handle).await.map_err(to_io);
        driver.abort();
        result
    })
}

fn to_io(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other.to_string()),
    }
}
