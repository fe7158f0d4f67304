//! Addresses off the wire.
//!
//! - Reads: `config.core.v3.{Address, SocketAddress, SocketOption, BindConfig}`.

use crate::cluster::{BindConfig, EndpointAddress, Keepalive, SocketOption, SocketOptionValue, SocketState};
use crate::rejected::{Invalid, Within};
use lateen_envoy_api::envoy::config::core::v3 as xcore;
use std::net::SocketAddr;

/// Reads an address; a host that is not an IP address is a name.
pub(crate) fn address(given: Option<&xcore::Address>) -> Result<EndpointAddress, Invalid> {
    use xcore::address::Address as A;
    match given.and_then(|a| a.address.as_ref()) {
        Some(A::SocketAddress(s)) => {
            let port = port(s)?;
            Ok(match s.address.parse() {
                Ok(ip) => EndpointAddress::Socket(SocketAddr::new(ip, port)),
                Err(_) if s.address.is_empty() => return Err(Invalid::new("socket_address.address", "is empty")),
                Err(_) => EndpointAddress::Dns(s.address.as_str().into(), port),
            })
        }
        Some(A::Pipe(pipe)) => Ok(EndpointAddress::Pipe(pipe.path.as_str().into())),
        Some(A::EnvoyInternalAddress(_)) => Err(Invalid::unsupported("envoy_internal_address", "an internal listener's address")),
        None => Err(Invalid::new("address", "is required")),
    }
}

/// Reads an IP address and port.
pub(crate) fn socket_address(given: &xcore::SocketAddress) -> Result<SocketAddr, Invalid> {
    let ip = given.address.parse().map_err(|_| Invalid::new("address", format!("`{}` is not an IP address", given.address)))?;
    Ok(SocketAddr::new(ip, port(given)?))
}

fn port(given: &xcore::SocketAddress) -> Result<u16, Invalid> {
    use xcore::socket_address::PortSpecifier as P;
    match &given.port_specifier {
        None => Ok(0),
        Some(P::PortValue(port)) => u16::try_from(*port).map_err(|_| Invalid::new("port_value", format!("{port} is above 65535"))),
        Some(P::NamedPort(name)) => Err(Invalid::unsupported("named_port", format!("port name `{name}`"))),
    }
}

/// Reads socket options.
pub(crate) fn socket_options(given: &[xcore::SocketOption]) -> Result<Vec<SocketOption>, Invalid> {
    given.iter().enumerate().map(|(i, option)| socket_option(option).within(format!("socket_options[{i}]"))).collect()
}

fn socket_option(given: &xcore::SocketOption) -> Result<SocketOption, Invalid> {
    use xcore::socket_option::{SocketState as S, Value as V};
    let int = |v: i64, field: &str| i32::try_from(v).map_err(|_| Invalid::new(field, format!("{v} does not fit 32 bits")));
    let value = match &given.value {
        // A mark is an unsigned number in an int's place.
        Some(V::IntValue(v)) => match u32::try_from(*v) {
            Ok(unsigned) => SocketOptionValue::Int(unsigned.cast_signed()),
            Err(_) => SocketOptionValue::Int(int(*v, "int_value")?),
        },
        Some(V::BufValue(bytes)) => SocketOptionValue::Bytes(bytes.as_slice().into()),
        None => return Err(Invalid::new("value", "is required")),
    };
    let when = match S::try_from(given.state) {
        Ok(S::StatePrebind) => SocketState::PreBind,
        Ok(S::StateBound) => SocketState::Bound,
        Ok(S::StateListening) => SocketState::Listening,
        Err(_) => return Err(Invalid::new("state", format!("{} is not known", given.state))),
    };
    Ok(SocketOption { level: int(given.level, "level")?, name: int(given.name, "name")?, value, when })
}

/// Reads where connections start.
///
/// # Errors
/// An address that is not an IP address; a selector of addresses.
pub fn bind_config(given: &xcore::BindConfig) -> Result<BindConfig, Invalid> {
    if let Some(selector) = &given.local_address_selector {
        return Err(Invalid::unsupported("local_address_selector", &selector.name));
    }
    Ok(BindConfig {
        source: given.source_address.as_ref().map(socket_address).transpose().within("source_address")?,
        socket_options: socket_options(&given.socket_options)?,
    })
}

/// Reads keepalive settings.
pub(crate) fn keepalive(given: &xcore::TcpKeepalive) -> Keepalive {
    Keepalive {
        probes: given.keepalive_probes.as_ref().map(|v| v.value),
        time: given.keepalive_time.as_ref().map(|v| v.value),
        interval: given.keepalive_interval.as_ref().map(|v| v.value),
    }
}
