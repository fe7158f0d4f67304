//! What the tests of real sockets share: certificates, upstream programs, bootstraps, a control plane.

#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lateen_envoy_api::envoy::config::core::v3::Node;
use lateen_proxy::bootstrap::Bootstrap;
use lateen_proxy::{ProxyOptions, Running, run};
use lateen_xds::server::{Application, Connection, Observer, Peer, Push, Xds};
use lateen_xds::server_session::{Received, Resource, TypeStatus};
use lateen_xds::{Protocol, Response};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};
use serde_json::{Value, json};
use tokio::sync::watch;

/// Longest any step of a test may take before it counts as hanging.
pub const STEP_MAX: Duration = Duration::from_secs(20);

/// A certificate authority for one test.
pub struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ca(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Certificate chain and key of a workload.
    pub fn issue(&self, spiffe: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = vec![SanType::URI(spiffe.try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    /// `common_tls_context` that shows `spiffe` and accepts peers named `accepts`.
    pub fn context(&self, spiffe: &str, accepts: Option<&str>, alpn: &[&str]) -> Value {
        let (chain, key) = self.issue(spiffe);
        let mut context = json!({
            "alpn_protocols": alpn,
            "tls_certificates": [{"certificate_chain": {"inline_string": chain}, "private_key": {"inline_string": key}}],
        });
        let mut validation = json!({"trusted_ca": {"inline_string": self.pem()}});
        if let Some(name) = accepts {
            validation["match_typed_subject_alt_names"] = json!([{"san_type": "URI", "matcher": {"exact": name}}]);
        }
        context["validation_context"] = validation;
        context
    }
}

pub fn upstream_tls(common: Value, sni: &str) -> Value {
    json!({"name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", "sni": sni, "common_tls_context": common}})
}

pub fn downstream_tls(common: Value, require_client_certificate: bool) -> Value {
    json!({"name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": require_client_certificate, "common_tls_context": common}})
}

/// A program that answers each connection with its name and then echoes.
pub fn echo(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for tcp in listener.incoming() {
            let mut tcp = tcp.unwrap();
            std::thread::spawn(move || {
                let mut buffer = [0u8; 4096];
                while let Ok(n) = tcp.read(&mut buffer) {
                    if n == 0 {
                        let _ = tcp.write_all(format!("bye from {name}").as_bytes());
                        return;
                    }
                    let text = [name.as_bytes(), b":", &buffer[..n]].concat();
                    if tcp.write_all(&text).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// A program that speaks first, as MySQL and SMTP do.
pub fn greeter(greeting: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for tcp in listener.incoming() {
            let mut tcp = tcp.unwrap();
            std::thread::spawn(move || {
                tcp.write_all(greeting.as_bytes()).unwrap();
                let mut line = [0u8; 64];
                let n = tcp.read(&mut line).unwrap_or(0);
                let _ = tcp.write_all(&line[..n]);
            });
        }
    });
    address
}

/// A program that answers every HTTP/1.1 request with its name.
pub fn http_backend(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for tcp in listener.incoming() {
            let mut tcp = tcp.unwrap();
            std::thread::spawn(move || {
                let mut held = Vec::new();
                let mut buffer = [0u8; 4096];
                while let Ok(n) = tcp.read(&mut buffer) {
                    if n == 0 {
                        return;
                    }
                    held.extend_from_slice(&buffer[..n]);
                    while let Some(end) = held.windows(4).position(|w| w == b"\r\n\r\n") {
                        held.drain(..end + 4);
                        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len());
                        if tcp.write_all(answer.as_bytes()).is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    address
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(STEP_MAX)).unwrap();
    tcp
}

/// Writes and reads one answer.
pub fn say(tcp: &mut TcpStream, text: &str) -> String {
    tcp.write_all(text.as_bytes()).unwrap();
    hear(tcp)
}

pub fn hear(tcp: &mut TcpStream) -> String {
    let mut buffer = [0u8; 4096];
    let n = tcp.read(&mut buffer).unwrap_or_else(|e| panic!("nothing to hear: {e}"));
    String::from_utf8_lossy(&buffer[..n]).into_owned()
}

/// GET over a fresh connection; the whole answer as text.
pub fn get(address: SocketAddr, path: &str) -> String {
    let mut tcp = connect(address);
    tcp.write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes()).unwrap();
    let mut text = String::new();
    let _ = tcp.read_to_string(&mut text);
    text
}

pub fn post(address: SocketAddr, path: &str) -> String {
    let mut tcp = connect(address);
    tcp.write_all(format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").as_bytes()).unwrap();
    let mut text = String::new();
    let _ = tcp.read_to_string(&mut text);
    text
}

pub fn address(at: SocketAddr) -> Value {
    json!({"socket_address": {"address": at.ip().to_string(), "port_value": at.port()}})
}

/// Port 0 on loopback.
pub fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

pub fn tcp_proxy(cluster: &str) -> Value {
    json!({"name": "envoy.filters.network.tcp_proxy", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "tcp", "cluster": cluster}})
}

pub fn network_rbac(action: &str, principals: Value) -> Value {
    json!({"name": "envoy.filters.network.rbac", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC", "stat_prefix": "tcp.",
        "rules": {"action": action, "policies": {"p": {"permissions": [{"any": true}], "principals": principals}}}}})
}

/// An HTTP connection manager that sends everything to `cluster`.
pub fn http_to(cluster: &str) -> Value {
    json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "http",
        "route_config": {"name": "r", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": cluster}}]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}})
}

pub fn listener(name: &str, at: SocketAddr, chains: Value) -> Value {
    json!({"name": name, "address": address(at), "filter_chains": chains})
}

pub fn cluster(name: &str, endpoints: &[SocketAddr]) -> Value {
    let endpoints: Vec<Value> = endpoints.iter().map(|at| json!({"endpoint": {"address": address(*at)}})).collect();
    json!({"name": name, "type": "STATIC", "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]}})
}

pub fn with(mut object: Value, field: &str, value: Value) -> Value {
    object[field] = value;
    object
}

/// A running proxy; ends with the test.
pub struct Proxy(Option<Running>);

impl Proxy {
    pub fn start(listeners: Vec<Value>, clusters: Vec<Value>) -> Self {
        Self::from_json(json!({"admin": {"address": address(any_port())}, "static_resources": {"listeners": listeners, "clusters": clusters}}))
    }

    pub fn from_json(bootstrap: Value) -> Self {
        let bootstrap = Bootstrap::from_text(&bootstrap.to_string()).unwrap_or_else(|e| panic!("{e}"));
        let options = ProxyOptions { concurrency: 1, handle_signals: false, drain_time: Duration::from_millis(500), ..ProxyOptions::new(bootstrap) };
        Proxy(Some(run(options).unwrap_or_else(|e| panic!("{e}"))))
    }

    pub fn at(&self, listener: &str) -> SocketAddr {
        let running = self.0.as_ref().unwrap();
        running.listening().iter().find(|(n, _)| n == listener).unwrap_or_else(|| panic!("no listener {listener}")).1
    }

    pub fn admin(&self) -> SocketAddr {
        self.0.as_ref().unwrap().admin().unwrap()
    }

    /// Asks the admin interface until `found` sees what it looks for.
    pub fn wait_admin<T>(&self, path: &str, found: impl Fn(&str) -> Option<T>) -> T {
        eventually(|| found(&get(self.admin(), path)))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(running) = self.0.take() {
            running.shutdown();
            running.wait();
        }
    }
}

/// Tries until it succeeds; panics after [`STEP_MAX`]. There is no event to wait for across a socket.
pub fn eventually<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = std::time::Instant::now();
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(start.elapsed() < STEP_MAX, "did not happen within {STEP_MAX:?}");
        std::thread::yield_now();
    }
}

/// A control plane in the test's process.
pub struct ControlPlane {
    pub address: SocketAddr,
    push: watch::Sender<Option<Arc<Push>>>,
    sets: Mutex<BTreeMap<String, BTreeMap<String, Resource>>>,
    received: Arc<Mutex<Vec<(String, Received)>>>,
    _runtime: tokio::runtime::Runtime,
}

struct App {
    pushes: watch::Receiver<Option<Arc<Push>>>,
    received: Arc<Mutex<Vec<(String, Received)>>>,
}

struct Seen(Arc<Mutex<Vec<(String, Received)>>>);

impl Observer for Seen {
    fn received(&mut self, type_url: &str, received: &Received) {
        self.0.lock().unwrap().push((type_url.to_owned(), received.clone()));
    }
    fn sent(&mut self, _response: &Response) {}
    fn status(&mut self, _status: BTreeMap<String, TypeStatus>) {}
}

impl Application for App {
    fn connect(&self, _peer: &Peer, _node: &Node, _protocol: Protocol) -> Result<Connection, tonic::Status> {
        Ok(Connection { pushes: self.pushes.clone(), observer: Box::new(Seen(Arc::clone(&self.received))) })
    }
}

impl ControlPlane {
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (push, pushes) = watch::channel(None);
        let received = Arc::<Mutex<Vec<(String, Received)>>>::default();
        let xds = Xds::new(Arc::new(App { pushes, received: Arc::clone(&received) }));
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move {
            let incoming = tonic::transport::server::TcpIncoming::from(listener);
            tonic::transport::Server::builder().add_service(xds.aggregated()).add_service(xds.secrets()).serve_with_incoming(incoming).await.unwrap();
        });
        let plane = ControlPlane { address, push, sets: Mutex::default(), received, _runtime: runtime };
        for kind in [lateen_xds::types::CLUSTER, lateen_xds::types::ENDPOINT, lateen_xds::types::LISTENER, lateen_xds::types::ROUTE, lateen_xds::types::SECRET] {
            plane.sets.lock().unwrap().insert(kind.to_owned(), BTreeMap::new());
        }
        plane
    }

    /// Sets one resource; `publish` makes it known.
    pub fn set(&self, name: &str, body: &Value) {
        let body: lateen_envoy_api::Any = serde_json::from_value(body.clone()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let version = body.value.iter().fold(7u64, |hash, b| hash.wrapping_mul(31).wrapping_add(u64::from(*b)));
        let mut sets = self.sets.lock().unwrap();
        sets.entry(body.type_url.clone()).or_default().insert(name.to_owned(), Resource { version, body });
    }

    pub fn remove(&self, type_url: &str, name: &str) {
        self.sets.lock().unwrap().get_mut(type_url).unwrap().remove(name);
    }

    pub fn publish(&self, version: &str) {
        let sets = self.sets.lock().unwrap().clone();
        self.push.send_replace(Some(Arc::new(Push { version: version.to_owned(), sets })));
    }

    /// Waits for a refusal and returns its text.
    pub fn refusal(&self) -> String {
        eventually(|| {
            self.received.lock().unwrap().iter().find_map(|(_, r)| match r {
                Received::Nacked(why) => Some(why.clone()),
                _ => None,
            })
        })
    }

    /// A bootstrap that asks this control plane for everything.
    pub fn bootstrap(&self, api_type: &str) -> Value {
        let xds = with(cluster("xds-grpc", &[self.address]), "typed_extension_protocol_options", json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}}}}));
        json!({
            "node": {"id": "sidecar~10.0.0.1~a.b~b.svc.cluster.local", "cluster": "a.b"},
            "admin": {"address": address(any_port())},
            "dynamic_resources": {
                "lds_config": {"ads": {}, "resource_api_version": "V3"},
                "cds_config": {"ads": {}, "resource_api_version": "V3"},
                "ads_config": {"api_type": api_type, "transport_api_version": "V3", "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}]},
            },
            "static_resources": {"clusters": [xds]},
        })
    }
}

/// Adds the type URL a resource is packed under.
pub fn typed(kind: &str, mut body: Value) -> Value {
    body["@type"] = format!("type.googleapis.com/{kind}").into();
    body
}

pub const CLUSTER: &str = "envoy.config.cluster.v3.Cluster";
pub const LISTENER: &str = "envoy.config.listener.v3.Listener";
pub const ENDPOINTS: &str = "envoy.config.endpoint.v3.ClusterLoadAssignment";
pub const SECRET: &str = "envoy.extensions.transport_sockets.tls.v3.Secret";
