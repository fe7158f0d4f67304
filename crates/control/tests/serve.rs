//! The control plane over real sockets, against a store that a test plays.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use lateen_base::names;
use lateen_control::{ControlOptions, serve};
use lateen_envoy_api::envoy::config::core::v3::Node;
use lateen_envoy_api::istio::v1::auth::IstioCertificateRequest;
use lateen_envoy_api::wkt::{Struct, Value as ProtoValue, value::Kind};
use lateen_xds::r#gen::istio::v1::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use lateen_xds::client::{self, Connector, Event};
use lateen_xds::{Protocol, Update, types};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};

/// A running control plane, the store it watches, and the key that tokens are signed with.
struct Plane {
    folder: PathBuf,
    options: ControlOptions,
    key: KeyPair,
    store: mpsc::UnboundedSender<Value>,
    stop: watch::Sender<bool>,
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn start(name: &str) -> Plane {
    let folder = std::env::temp_dir().join(format!("lateen-control-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    std::fs::write(folder.join("sa.pub"), key.public_key_pem()).unwrap();
    let (store, events) = mpsc::unbounded_channel();
    tokio::spawn(play_store(UnixListener::bind(folder.join("store.sock")).unwrap(), events));
    let mut options = ControlOptions::new(folder.join("store.sock"), folder.join("state"), folder.join("sa.pub"));
    options.xds_plaintext = free_address();
    options.xds_tls = free_address();
    options.debug = free_address();
    options.ready = free_address();
    let (stop, stopped) = watch::channel(false);
    let serving = options.clone();
    tokio::spawn(async move { serve(serving, stopped).await.unwrap() });
    Plane { folder, options, key, store, stop }
}

/// Answers `GET /watch` with the events that come through the channel, anything else with 200.
async fn play_store(listener: UnixListener, events: mpsc::UnboundedReceiver<Value>) {
    let events = Arc::new(tokio::sync::Mutex::new(events));
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let events = Arc::clone(&events);
        tokio::spawn(async move {
            let head = read_head(&mut stream).await;
            if !head.starts_with("GET /watch") {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}").await;
                return;
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
            let mut events = events.lock().await;
            while let Some(event) = events.recv().await {
                let line = format!("{event}\n");
                let chunk = format!("{:x}\r\n{line}\r\n", line.len());
                if stream.write_all(chunk.as_bytes()).await.is_err() {
                    return;
                }
            }
        });
    }
}

async fn read_head(stream: &mut UnixStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0_u8];
    while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).await.is_ok() {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

fn event(kind: &str, object: Value) -> Value {
    json!({"type": kind, "object": object})
}

fn service(name: &str, port: u16) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "default", "uid": name, "resourceVersion": "1", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"clusterIP": "10.96.0.20", "ports": [{"name": "http", "port": port, "targetPort": port}], "selector": {"app": name}}
    })
}

fn node(namespace: &str) -> Node {
    let text = |s: &str| ProtoValue { kind: Some(Kind::StringValue(s.to_owned())) };
    let fields = [("NAMESPACE", namespace), ("SERVICE_ACCOUNT", "frontend")].map(|(k, v)| (k.to_owned(), text(v)));
    Node {
        id: format!("sidecar~10.244.0.7~frontend-1.{namespace}~{namespace}.svc.cluster.local"),
        metadata: Some(Struct { fields: fields.into_iter().collect() }),
        user_agent_name: names::USER_AGENT.to_owned(),
        ..Default::default()
    }
}

impl Plane {
    fn token(&self, namespace: &str) -> String {
        let exp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 600;
        let claims = json!({"sub": format!("system:serviceaccount:{namespace}:frontend"), "aud": ["istio-ca"], "exp": exp});
        let key = EncodingKey::from_ec_pem(self.key.serialize_pem().as_bytes()).unwrap();
        jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &key).unwrap()
    }

    /// Connects to the TLS port, trusting the root that the control plane wrote.
    fn tls(&self) -> Connector {
        let address = self.options.xds_tls;
        let root = self.folder.join("state").join(lateen_ca::root::ROOT_CERT_FILE);
        Arc::new(move || {
            let root = root.clone();
            Box::pin(async move {
                let config = client_config(&root)?;
                let stream = tokio::net::TcpStream::connect(address).await?;
                let name = ServerName::try_from(names::ISTIOD_HOST).unwrap();
                let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await?;
                Ok(Box::new(stream) as Box<dyn client::Io>)
            })
        })
    }

    fn secure_client(&self, node: Node, token: Option<String>) -> client::Options {
        let mut options = client::Options::new(node, Protocol::Delta, self.tls());
        options.authorize = token.map(|t| -> client::Authorize {
            Arc::new(move |metadata| {
                metadata.insert("authorization", format!("Bearer {t}").parse().unwrap());
            })
        });
        options
    }
}

fn client_config(root: &Path) -> std::io::Result<Arc<rustls::ClientConfig>> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&std::fs::read(root)?) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// The next update, however many attempts the connection takes.
async fn update(events: &mut mpsc::Receiver<Event>) -> Update {
    loop {
        if let Event::Update(update) = events.recv().await.unwrap() {
            return update;
        }
    }
}

/// The first refusal that is not just "not listening yet".
async fn refusal(events: &mut mpsc::Receiver<Event>) -> String {
    loop {
        match events.recv().await.unwrap() {
            Event::Disconnected { error, .. } if error.contains("Denied") || error.contains("Unauthenticated") => return error,
            Event::Update(update) => panic!("{update:?}"),
            Event::Disconnected { .. } | Event::Connected => {}
        }
    }
}

fn names_of(update: &Update) -> Vec<&str> {
    update.added.iter().map(|r| r.name.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_pushed_before_the_store_was_read_completely_and_changes_follow() {
    let plane = start("push");
    plane.store.send(event("ADDED", service("backend", 80))).unwrap();
    let options = client::Options::new(node("default"), Protocol::Delta, client::tcp(plane.options.xds_plaintext.to_string()));
    let (handle, mut events) = client::start(options);
    handle.subscribe_all(types::CLUSTER).await;
    while !matches!(events.recv().await.unwrap(), Event::Connected) {}
    plane.store.send(event("ADDED", service("db", 90))).unwrap();
    plane.store.send(event("BOOKMARK", json!({}))).unwrap();
    let first = update(&mut events).await;
    let (backend, db) = ("outbound|80||backend.default.svc.cluster.local", "outbound|90||db.default.svc.cluster.local");
    assert!(names_of(&first).contains(&backend) && names_of(&first).contains(&db), "{:?}", names_of(&first));
    handle.ack(&first).await;
    plane.store.send(event("DELETED", service("db", 90))).unwrap();
    let second = update(&mut events).await;
    assert_eq!((names_of(&second), second.removed.as_slice()), (vec![], [db.to_owned()].as_slice()));
    handle.ack(&second).await;
    plane.store.send(event("ADDED", service("cache", 70))).unwrap();
    assert_eq!(names_of(&update(&mut events).await), ["outbound|70||cache.default.svc.cluster.local"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_must_be_who_it_says() {
    let plane = start("identity");
    plane.store.send(event("BOOKMARK", json!({}))).unwrap();
    let (handle, mut events) = client::start(plane.secure_client(node("default"), Some(plane.token("default"))));
    handle.subscribe_all(types::CLUSTER).await;
    update(&mut events).await;
    let (handle, mut events) = client::start(plane.secure_client(node("default"), Some(plane.token("other"))));
    handle.subscribe_all(types::CLUSTER).await;
    assert!(refusal(&mut events).await.contains("PermissionDenied"));
    let (handle, mut events) = client::start(plane.secure_client(node("default"), None));
    handle.subscribe_all(types::CLUSTER).await;
    assert!(refusal(&mut events).await.contains("Unauthenticated"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_issued_for_the_tokens_identity_only() {
    let plane = start("certificate");
    let channel = loop {
        if let Ok(channel) = client::connect(&plane.tls()).await {
            break channel;
        }
        tokio::task::yield_now().await;
    };
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let csr = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    let mut request = tonic::Request::new(IstioCertificateRequest { csr, validity_duration: 3600, ..Default::default() });
    let mut client = IstioCertificateServiceClient::new(channel);
    let refused = client.create_certificate(tonic::Request::new(request.get_ref().clone())).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);
    request.metadata_mut().insert("authorization", format!("Bearer {}", plane.token("default")).parse().unwrap());
    let chain = client.create_certificate(request).await.unwrap().into_inner().cert_chain;
    let (_, block) = x509_parser::pem::parse_x509_pem(chain[0].as_bytes()).unwrap();
    let leaf = block.parse_x509().unwrap();
    let san = leaf.subject_alternative_name().unwrap().unwrap();
    assert_eq!(format!("{:?}", san.value.general_names), r#"[URI("spiffe://cluster.local/ns/default/sa/frontend")]"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn debug_pages_show_a_refusal() {
    let plane = start("debug");
    plane.store.send(event("BOOKMARK", json!({}))).unwrap();
    let options = client::Options::new(node("default"), Protocol::Delta, client::tcp(plane.options.xds_plaintext.to_string()));
    let (handle, mut events) = client::start(options);
    handle.subscribe_all(types::CLUSTER).await;
    let first = update(&mut events).await;
    handle.nack(&first, vec![], "no such thing".to_owned()).await;
    let page = loop {
        let page = get(plane.options.debug, "/debug/syncz").await;
        if page.contains("no such thing") {
            break page;
        }
    };
    let rows: Value = serde_json::from_str(&page).unwrap();
    assert_eq!(rows[0]["types"]["CDS"]["status"], "NACKED");
    assert_eq!(rows[0]["proxy"], "frontend-1.default");
    let metrics = get(plane.options.debug, "/metrics").await;
    assert!(metrics.contains("pilot_total_xds_rejects{type=\"cds\"} 1\n"), "{metrics}");
    assert!(get(plane.options.debug, "/debug/config_dump?proxyID=frontend-1.default").await.contains("ClustersConfigDump"));
}

async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut text = String::new();
    tokio::time::timeout(Duration::from_secs(5), stream.read_to_string(&mut text)).await.unwrap().unwrap();
    text.split_once("\r\n\r\n").unwrap().1.to_owned()
}
