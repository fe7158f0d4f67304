//! Ports of the mesh on the host's loopback.
//!
//! - Rule: bound before anything starts, so that a taken port is an error at once; the sandbox gets the listening sockets.

use super::UpError;
use crate::channel::Published;
use crate::options::UpOptions;
use lateen_base::ports;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;

/// Binds the ports. The listeners come in the order of [`Published`]'s fields.
///
/// # Errors
/// [`UpError::PortTaken`].
pub(super) fn bind(options: &UpOptions) -> Result<(Published, Vec<OwnedFd>), UpError> {
    let (ingress, ingress_listener) = listen(options.ingress).map_err(taken(options.ingress, "--ingress"))?;
    let tls = match options.ingress_tls {
        Some(port) => Some(listen(port).map_err(taken(port, "--ingress-tls"))?),
        // Nobody asked for this one: do without it when it is taken.
        None => listen(ports::INGRESS_TLS_DEFAULT).ok(),
    };
    let (dashboard, dashboard_listener) = listen(options.dashboard).map_err(taken(options.dashboard, "--dashboard"))?;
    let ingress_tls = tls.as_ref().map(|(port, _)| *port);
    let listeners = [Some(ingress_listener), tls.map(|(_, listener)| listener), Some(dashboard_listener)];
    Ok((Published { ingress, ingress_tls, dashboard }, listeners.into_iter().flatten().map(OwnedFd::from).collect()))
}

fn listen(port: u16) -> io::Result<(u16, TcpListener)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    listener.set_nonblocking(true)?;
    Ok((listener.local_addr()?.port(), listener))
}

fn taken(port: u16, flag: &'static str) -> impl Fn(io::Error) -> UpError {
    move |source| UpError::PortTaken { port, flag, source }
}
