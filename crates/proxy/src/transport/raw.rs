//! Plain sockets: options set on every connection, dialling with a source address and socket options.
//!
//! - Reads: `core.v3.SocketOption`, `core.v3.BindConfig`, `core.v3.TcpKeepalive` as the plan checked them.
//! - Rule: an option that the kernel refuses fails the connection with the option's name, never silently.
//! - Not here: TLS (`tls`), choosing the endpoint (`cluster`).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use lateen_plan::cluster::{SocketOption, SocketOptionValue, SocketState};
use lateen_sys::socket as sys;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpSocket, TcpStream};

/// What a dialled socket is given before it connects. Source: `upstream_bind_config`, `upstream_connection_options`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DialOptions {
    /// Source address; port 0 lets the kernel choose.
    pub source: Option<SocketAddr>,
    /// Options by number, the packet mark among them.
    pub options: Arc<[SocketOption]>,
    /// `SO_KEEPALIVE` and its timers.
    pub keepalive: Option<Keepalive>,
}

/// TCP keep-alive timers; `None` leaves the kernel's default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keepalive {
    /// Idle time before the first probe.
    pub time: Option<Duration>,
    /// Time between probes.
    pub interval: Option<Duration>,
    /// Unanswered probes before the connection is dead.
    pub probes: Option<u32>,
}

/// Connects to `target`.
///
/// # Errors
/// Any step's error; the text of an option's failure names the option and the remedy.
pub async fn dial(target: SocketAddr, options: &DialOptions) -> io::Result<TcpStream> {
    let socket = if target.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    set_options(&socket, &options.options, SocketState::PreBind)?;
    if let Some(source) = options.source
        && source.is_ipv4() == target.is_ipv4()
    {
        if source.port() == 0 {
            // The kernel picks the port at connect time, so that ports run out per destination and not in all.
            let _ = sys::set_option(&socket, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &1i32.to_ne_bytes());
        }
        socket.bind(source)?;
    }
    set_options(&socket, &options.options, SocketState::Bound)?;
    if let Some(k) = options.keepalive {
        SockRef::from(&socket).set_tcp_keepalive(&keepalive(k))?;
    }
    let stream = socket.connect(target).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sets the options of one state, in order.
fn set_options(socket: &impl AsFd, options: &[SocketOption], state: SocketState) -> io::Result<()> {
    for option in options.iter().filter(|o| o.when == state) {
        let outcome = match &option.value {
            SocketOptionValue::Int(value) => sys::set_option(socket, option.level, option.name, &value.to_ne_bytes()),
            SocketOptionValue::Bytes(bytes) => sys::set_option(socket, option.level, option.name, bytes),
        };
        outcome.map_err(|e| {
            let needs = if e.kind() == io::ErrorKind::PermissionDenied { "; the proxy needs CAP_NET_ADMIN in its network namespace" } else { "" };
            io::Error::new(e.kind(), format!("socket option level {} name {} refused: {e}{needs}", option.level, option.name))
        })?;
    }
    Ok(())
}

/// Level of IPv4 options (Linux).
const IPPROTO_IP: i32 = 0;
/// ip(7): leave choosing the source port to `connect` (Linux).
const IP_BIND_ADDRESS_NO_PORT: i32 = 24;

fn keepalive(k: Keepalive) -> TcpKeepalive {
    let mut options = TcpKeepalive::new();
    if let Some(time) = k.time {
        options = options.with_time(time);
    }
    if let Some(interval) = k.interval {
        options = options.with_interval(interval);
    }
    if let Some(probes) = k.probes {
        options = options.with_retries(probes);
    }
    options
}

/// Makes closing `tcp` send a reset.
pub fn reset_on_close(tcp: &TcpStream) {
    let _ = SockRef::from(tcp).set_linger(Some(Duration::ZERO));
}

/// What a listening socket is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListenOptions {
    /// Pending connections the kernel keeps; 0 means [`BACKLOG`].
    pub backlog: u32,
    /// Options by number. An accepted socket inherits its listener's packet mark.
    pub options: Arc<[SocketOption]>,
}

/// Kernel queue of connections not yet accepted. Envoy's default is the kernel's maximum; 4096 is that maximum on current kernels.
pub const BACKLOG: u32 = 4096;

/// Binds and listens; every worker does so on the same address, and the kernel spreads connections (`SO_REUSEPORT`).
///
/// # Errors
/// The failing call's error, with the address in the text.
pub fn listen(address: SocketAddr, options: &ListenOptions) -> io::Result<std::net::TcpListener> {
    let bound = || -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        if let IpAddr::V6(ip) = address.ip() {
            socket.set_only_v6(!ip.is_unspecified())?;
        }
        set_options(&socket, &options.options, SocketState::PreBind)?;
        socket.bind(&address.into())?;
        set_options(&socket, &options.options, SocketState::Bound)?;
        socket.listen(i32::try_from(if options.backlog == 0 { BACKLOG } else { options.backlog }).unwrap_or(i32::MAX))?;
        set_options(&socket, &options.options, SocketState::Listening)?;
        Ok(socket)
    };
    bound().map(Into::into).map_err(|e| io::Error::new(e.kind(), format!("cannot listen on {address}: {e}; is another program using the port?")))
}
