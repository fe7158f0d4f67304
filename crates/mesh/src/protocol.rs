//! Protocol selection: what a Service or Gateway port speaks, told by its name or `appProtocol`.
//!
//! - Reads: port `name` (`http-web`), `appProtocol`, or the explicit `protocol` of Gateway and ServiceEntry ports.
//! - Rule: `appProtocol` wins over the name; a name without a known prefix means [`Protocol::Auto`] (sniffing).
//! - Not here: sniffing itself (`proxy/src/listener/http_inspector.rs`).

/// What flows through a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// HTTP/1.1.
    Http,
    /// HTTP/2, cleartext or over TLS ended elsewhere.
    Http2,
    /// gRPC: HTTP/2 with status in trailers.
    Grpc,
    /// gRPC-Web: HTTP/1.1.
    GrpcWeb,
    /// HTTP inside TLS that the application (or gateway) ends.
    Https,
    /// TLS of unknown content.
    Tls,
    /// Opaque bytes.
    Tcp,
    /// MongoDB, handled as TCP.
    Mongo,
    /// MySQL, handled as TCP; the server speaks first.
    MySql,
    /// Redis, handled as TCP.
    Redis,
    /// Datagrams; the mesh does not carry them.
    Udp,
    /// Undeclared: the proxy looks at the first bytes.
    Auto,
}

impl Protocol {
    /// Reads a protocol word in any case, as in `Gateway.servers[].port.protocol`. `None` for an unknown word.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word.to_ascii_lowercase().as_str() {
            "http" => Self::Http,
            "http2" => Self::Http2,
            "grpc" => Self::Grpc,
            "grpc-web" => Self::GrpcWeb,
            "https" => Self::Https,
            "tls" => Self::Tls,
            "tcp" => Self::Tcp,
            "mongo" => Self::Mongo,
            "mysql" => Self::MySql,
            "redis" => Self::Redis,
            "udp" => Self::Udp,
            _ => return None,
        })
    }

    /// The protocol of a Kubernetes Service port. Source: Istio "Protocol Selection".
    pub fn of_service_port(name: &str, app_protocol: Option<&str>, transport: &str, number: u16) -> Self {
        if transport.eq_ignore_ascii_case("udp") {
            return Self::Udp;
        }
        match app_protocol {
            Some("kubernetes.io/h2c") => return Self::Http2,
            Some("kubernetes.io/ws") => return Self::Http,
            Some("kubernetes.io/wss") => return Self::Https,
            Some(word) => {
                if let Some(known) = Self::parse(word) {
                    return known;
                }
            }
            None => {}
        }
        if SERVER_FIRST_PORTS.contains(&number) && name.is_empty() {
            return Self::Tcp;
        }
        Self::of_name(name)
    }

    fn of_name(name: &str) -> Self {
        let lower = name.to_ascii_lowercase();
        if lower == "grpc-web" || lower.starts_with("grpc-web-") {
            return Self::GrpcWeb;
        }
        let prefix = lower.split('-').next().unwrap_or_default();
        Self::parse(prefix).unwrap_or(Self::Auto)
    }

    /// True for what an HTTP connection manager handles.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2 | Self::Grpc | Self::GrpcWeb)
    }

    /// True when the upstream side must speak HTTP/2.
    pub fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Grpc)
    }

    /// True when the content is TLS that the mesh does not open.
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Tls)
    }

    /// True for what is handled as a byte stream, TLS included.
    pub fn is_tcp(self) -> bool {
        matches!(self, Self::Tcp | Self::Mongo | Self::MySql | Self::Redis) || self.is_tls()
    }
}

/// Ports whose protocols let the server speak first, where sniffing would wait for ever: SMTP, DNS, MySQL, MongoDB.
const SERVER_FIRST_PORTS: [u16; 4] = [25, 53, 3306, 27017];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_names_the_protocol() {
        assert_eq!(Protocol::of_service_port("http-web", None, "TCP", 80), Protocol::Http);
        assert_eq!(Protocol::of_service_port("grpc-web", None, "TCP", 80), Protocol::GrpcWeb);
        assert_eq!(Protocol::of_service_port("grpc-foo", None, "TCP", 80), Protocol::Grpc);
    }

    #[test]
    fn an_unknown_name_is_sniffed() {
        assert_eq!(Protocol::of_service_port("", None, "TCP", 80), Protocol::Auto);
        assert_eq!(Protocol::of_service_port("status-port", None, "TCP", 15021), Protocol::Auto);
        assert_eq!(Protocol::of_service_port("httpweb", None, "TCP", 80), Protocol::Auto);
    }

    #[test]
    fn app_protocol_wins_over_the_name() {
        assert_eq!(Protocol::of_service_port("http", Some("tcp"), "TCP", 80), Protocol::Tcp);
    }
}
