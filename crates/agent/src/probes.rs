//! Application probes: the kubelet asks the agent, the agent asks the application inside the pod.
//!
//! - Reads: `ISTIO_KUBE_APP_PROBERS`, JSON: path → Kubernetes probe (`httpGet`, `tcpSocket`, `grpc`, `timeoutSeconds`).
//! - Twin: `inject`, which rewrites the pod's probes to these paths.
//! - Rule: loopback first; an application that listens on the pod's address only is asked there, from Istio's source address.
//! - Rule: a status of 200 to 399 is healthy, as the kubelet has it; redirects are not followed.
//! - Limits: 1 s where the probe names no timeout.

use crate::fetch::{Ask, fetch};
use crate::upstream;
use lateen_base::ports::INBOUND_PASSTHROUGH_SOURCE;
use prost::Message;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// One probe. Source: Kubernetes' `Probe`; thresholds and periods are the kubelet's business and are accepted unread.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    http_get: Option<HttpGet>,
    tcp_socket: Option<TcpSocket>,
    grpc: Option<Grpc>,
    #[serde(default)]
    timeout_seconds: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HttpGet {
    #[serde(default)]
    path: String,
    port: u16,
    #[serde(default)]
    scheme: String,
    #[serde(default)]
    http_headers: Option<Vec<Header>>,
}

#[derive(Clone, Debug, Deserialize)]
struct Header {
    name: String,
    value: String,
}

#[derive(Clone, Debug, Deserialize)]
struct TcpSocket {
    port: u16,
}

#[derive(Clone, Debug, Deserialize)]
struct Grpc {
    port: u16,
    #[serde(default)]
    service: Option<String>,
}

/// The pod's probes by path.
#[derive(Clone, Debug, Default)]
pub struct Probes {
    by_path: BTreeMap<String, Probe>,
    pod_ip: Option<IpAddr>,
    mark: bool,
}

impl Probes {
    /// Reads the JSON.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: Option<&str>, pod_ip: Option<IpAddr>, mark: bool) -> Result<Self, serde_json::Error> {
        let by_path = text.map_or(Ok(BTreeMap::new()), serde_json::from_str)?;
        Ok(Self { by_path, pod_ip, mark })
    }

    /// Runs the probe at `path`; `None` when there is none.
    pub async fn run(&self, path: &str) -> Option<Result<(), String>> {
        let probe = self.by_path.get(path)?;
        let loopback = self.ask(probe, IpAddr::V4(Ipv4Addr::LOCALHOST), None).await;
        match (loopback, self.pod_ip) {
            (Err(Failure::NotConnected(_)), Some(pod_ip)) => {
                let source = pod_ip.is_ipv4().then_some(IpAddr::V4(INBOUND_PASSTHROUGH_SOURCE));
                Some(self.ask(probe, pod_ip, source).await.map_err(Failure::into_text))
            }
            (other, _) => Some(other.map_err(Failure::into_text)),
        }
    }

    async fn ask(&self, probe: &Probe, host: IpAddr, source: Option<IpAddr>) -> Result<(), Failure> {
        let deadline = Duration::from_secs(probe.timeout_seconds.max(1));
        let (http, tcp, grpc) = (probe.http_get.as_ref(), probe.tcp_socket.as_ref(), probe.grpc.as_ref());
        let port = http.map(|h| h.port).or(tcp.map(|t| t.port)).or(grpc.map(|g| g.port));
        let Some(port) = port else { return Err(Failure::Unhealthy("the probe names neither httpGet nor tcpSocket nor grpc".to_owned())) };
        let address = SocketAddr::new(host, port);
        let connecting = tokio::time::timeout(deadline, upstream::connect(address, source, self.mark)).await;
        match connecting {
            Err(_) => return Err(Failure::Unhealthy(format!("{address} did not accept within {deadline:?}"))),
            Ok(Err(error)) => return Err(Failure::NotConnected(format!("{address}: {error}"))),
            Ok(Ok(_)) if tcp.is_some() => return Ok(()),
            Ok(Ok(_)) => {}
        }
        if let Some(grpc) = grpc {
            let asking = grpc_health(address, source, self.mark, grpc.service.clone().unwrap_or_default());
            return tokio::time::timeout(deadline, asking).await.map_err(|_| Failure::Unhealthy(format!("{address} did not answer within {deadline:?}")))?;
        }
        let Some(http) = http else { return Ok(()) };
        http_health(http, Ask { source, ..Ask::get(address, &http_path(http), self.mark, deadline) }).await
    }
}

enum Failure {
    /// Nothing listens there.
    NotConnected(String),
    /// It answers, and not well.
    Unhealthy(String),
}

impl Failure {
    fn into_text(self) -> String {
        match self {
            Self::NotConnected(text) | Self::Unhealthy(text) => text,
        }
    }
}

fn http_path(http: &HttpGet) -> String {
    if http.path.starts_with('/') { http.path.clone() } else { format!("/{}", http.path) }
}

async fn http_health(http: &HttpGet, mut ask: Ask) -> Result<(), Failure> {
    ask.tls = http.scheme.eq_ignore_ascii_case("https");
    ask.headers = http.http_headers.iter().flatten().map(|h| (h.name.clone(), h.value.clone())).collect();
    let answer = fetch(&ask).await.map_err(Failure::Unhealthy)?;
    if (200..400).contains(&answer.status.as_u16()) { Ok(()) } else { Err(Failure::Unhealthy(format!("{}{} answered {}", ask.address, ask.path, answer.status))) }
}

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, PartialEq, Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// `SERVING` of `grpc.health.v1.HealthCheckResponse.ServingStatus`.
const SERVING: i32 = 1;

async fn grpc_health(address: SocketAddr, source: Option<IpAddr>, mark: bool, service: String) -> Result<(), Failure> {
    let bad = |e: String| Failure::Unhealthy(format!("{address}: {e}"));
    let connector: lateen_xds::client::Connector = Arc::new(move || {
        Box::pin(async move { upstream::connect(address, source, mark).await.map(|s| Box::new(s) as Box<dyn lateen_xds::client::Io>) })
    });
    let channel = lateen_xds::client::connect(&connector).await.map_err(bad)?;
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|e| bad(e.to_string()))?;
    let path = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    let response = client.unary(tonic::Request::new(HealthCheckRequest { service }), path, codec).await.map_err(|s| bad(s.to_string()))?;
    match response.into_inner().status {
        SERVING => Ok(()),
        other => Err(bad(format!("health status {other}, not SERVING (1)"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn istios_form_is_read() {
        let text = r#"{"/app-health/app/livez":{"httpGet":{"path":"/ip","port":8000,"scheme":"HTTP"},"timeoutSeconds":1,"periodSeconds":5},
                       "/app-health/app/readyz":{"tcpSocket":{"port":90}}, "/app-health/app/startupz":{"grpc":{"port":5,"service":null}}}"#;
        let probes = Probes::parse(Some(text), None, false).unwrap();
        assert_eq!(probes.by_path.len(), 3);
    }

    #[tokio::test]
    async fn an_unknown_path_is_no_probe() {
        assert!(Probes::default().run("/app-health/x/livez").await.is_none());
    }

    #[tokio::test]
    async fn a_listening_port_is_healthy_and_a_closed_one_is_not() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let text = format!(r#"{{"/app-health/a/livez":{{"tcpSocket":{{"port":{port}}}}}}}"#);
        let probes = Probes::parse(Some(&text), None, false).unwrap();
        assert_eq!(probes.run("/app-health/a/livez").await, Some(Ok(())));
        drop(listener);
        assert!(matches!(probes.run("/app-health/a/livez").await, Some(Err(_))));
    }
}
