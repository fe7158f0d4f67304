//! The agent's parts against a control plane that the test plays: certificates, secrets, relay.

use crate::upstream::Upstream;
use crate::{AgentOptions, identity, relay, serve_sds, unix_listener};
use lateen_base::{SpiffeId, names};
use lateen_envoy_api::Any;
use lateen_envoy_api::envoy::config::core::v3::{Node, data_source::Specifier};
use lateen_envoy_api::envoy::extensions::transport_sockets::tls::v3::{Secret, secret::Type};
use lateen_envoy_api::istio::v1::auth::{IstioCertificateRequest, IstioCertificateResponse};
use lateen_xds::r#gen::istio::v1::auth::istio_certificate_service_server::{IstioCertificateService, IstioCertificateServiceServer};
use lateen_xds::client::{self, Event};
use lateen_xds::server::{Application, Connection, Observer, Peer, Push, Xds};
use lateen_xds::server_session::{Received, TypeStatus};
use lateen_xds::{Protocol, Resource, Response, Sets, Update, types};
use prost::Message;
use rcgen::{BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tonic::{Request, Status};

const TOKEN: &str = "a.b.c";

/// A root and the server certificate it gave.
struct Root {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
    tls: Arc<rustls::ServerConfig>,
}

fn root() -> Arc<Root> {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let pem = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let server_key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&server_key, &issuer).unwrap();
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(server)], PrivateKeyDer::try_from(server_key.serialize_der()).unwrap())
        .unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(Root { pem, issuer, tls: Arc::new(tls) })
}

/// Signs for half a minute and a bit more each time, so that certificates can be told apart.
struct Ca {
    root: Arc<Root>,
    lifetime: Duration,
}

#[tonic::async_trait]
impl IstioCertificateService for Ca {
    async fn create_certificate(&self, request: Request<IstioCertificateRequest>) -> Result<tonic::Response<IstioCertificateResponse>, Status> {
        assert_eq!(request.metadata().get("authorization").unwrap(), &format!("Bearer {TOKEN}"));
        let mut csr = CertificateSigningRequestParams::from_pem(&request.into_inner().csr).unwrap();
        csr.params.not_before = SystemTime::now().into();
        csr.params.not_after = (SystemTime::now() + self.lifetime).into();
        let leaf = csr.signed_by(&self.root.issuer).unwrap().pem();
        Ok(tonic::Response::new(IstioCertificateResponse { cert_chain: vec![leaf, self.root.pem.clone()] }))
    }
}

/// Serves one cluster to whoever shows the token.
struct App {
    pushes: watch::Receiver<Option<Arc<Push>>>,
    nodes: mpsc::UnboundedSender<String>,
}

struct Ignore;

impl Observer for Ignore {
    fn received(&mut self, _: &str, _: &Received) {}
    fn sent(&mut self, _: &Response) {}
    fn status(&mut self, _: BTreeMap<String, TypeStatus>) {}
}

impl Application for App {
    fn connect(&self, peer: &Peer, node: &Node, _: Protocol) -> Result<Connection, Status> {
        assert_eq!(peer.metadata.get("authorization").unwrap(), &format!("Bearer {TOKEN}"));
        self.nodes.send(node.id.clone()).unwrap();
        Ok(Connection { pushes: self.pushes.clone(), observer: Box::new(Ignore) })
    }
}

/// Listens with TLS and serves certificates and xDS until the task is aborted.
fn serve(listener: TcpListener, root: Arc<Root>, lifetime: Duration, app: App) -> tokio::task::JoinHandle<()> {
    let (sender, incoming) = mpsc::channel(8);
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::clone(&root.tls));
    tokio::spawn(async move {
        let accepting = async move {
            // Dropped with the server, so that its connections break with it.
            let mut bridges = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                // tonic takes streams of its own kinds only; one of them carries the bytes on.
                let (ours, mut theirs) = tokio::io::duplex(1 << 16);
                bridges.spawn(async move { tokio::io::copy_bidirectional(&mut stream, &mut theirs).await });
                let _ = sender.send(Ok::<_, std::io::Error>(ours)).await;
            }
        };
        let xds = Xds::new(Arc::new(app));
        let serving = tonic::transport::Server::builder()
            .add_service(xds.aggregated())
            .add_service(IstioCertificateServiceServer::new(Ca { root, lifetime }))
            .serve_with_incoming(tokio_stream::wrappers::ReceiverStream::new(incoming));
        tokio::select! { () = accepting => {}, _ = serving => {} }
    })
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn folder(name: &str) -> Folder {
    let path = std::env::temp_dir().join(format!("lateen-agent-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    Folder(path)
}

fn upstream(folder: &Path, root_pem: &str, port: u16) -> Upstream {
    std::fs::write(folder.join("token"), TOKEN).unwrap();
    std::fs::write(folder.join("root.pem"), root_pem).unwrap();
    let mut options = AgentOptions::new("p".into(), "default".into(), "frontend".into(), "127.0.0.1".parse().unwrap());
    options.discovery_host = "localhost".to_owned();
    options.discovery_port = port;
    options.token_path = folder.join("token");
    options.root_cert_path = folder.join("root.pem");
    options.mark = false;
    Upstream::new(&options)
}

fn id() -> SpiffeId {
    SpiffeId::new("cluster.local", "default", "frontend")
}

fn app() -> (App, watch::Sender<Option<Arc<Push>>>, mpsc::UnboundedReceiver<String>) {
    let (sender, pushes) = watch::channel(Some(push(1)));
    let (nodes, seen) = mpsc::unbounded_channel();
    (App { pushes, nodes }, sender, seen)
}

fn push(version: u64) -> Arc<Push> {
    let body = Any { type_url: types::CLUSTER.into(), value: b"\x0a\x01a".to_vec().into() };
    let clusters = BTreeMap::from([("a".to_owned(), Resource { version, body })]);
    Arc::new(Push { version: version.to_string(), sets: Sets::from([(types::CLUSTER.to_owned(), clusters)]) })
}

async fn update(events: &mut mpsc::Receiver<Event>) -> Update {
    loop {
        if let Event::Update(update) = events.recv().await.unwrap() {
            return update;
        }
    }
}

#[tokio::test]
async fn a_certificate_reaches_the_proxy_and_so_does_the_next() {
    let folder = folder("sds");
    let root = root();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = upstream(&folder.0, &root.pem, listener.local_addr().unwrap().port());
    let (app, _pushes, _nodes) = app();
    // Half of two seconds: the renewal comes after the shortest wait there is.
    serve(listener, Arc::clone(&root), Duration::from_secs(2), app);
    let (identities, identity) = watch::channel(None);
    tokio::spawn(identity::keep(upstream, id(), Duration::from_secs(2), identities));
    let socket = folder.0.join(names::SDS_SOCKET);
    tokio::spawn(serve_sds(unix_listener(&socket).unwrap(), identity));
    let options = client::Options { service: client::Service::Secret, ..client::Options::new(Node::default(), Protocol::Delta, client::unix(&socket)) };
    let (handle, mut events) = client::start(options);
    handle.subscribe(types::SECRET, vec![names::SECRET_DEFAULT.to_owned(), names::SECRET_ROOT.to_owned()]).await;
    let first = update(&mut events).await;
    handle.ack(&first).await;
    let (key, chain) = certificate(&first);
    assert!(key.contains("PRIVATE KEY") && chain.contains("BEGIN CERTIFICATE"));
    assert_eq!(first.added.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), [names::SECRET_ROOT, names::SECRET_DEFAULT]);
    let second = update(&mut events).await;
    assert_eq!(second.added.len(), 1, "the root did not change");
    assert_ne!(certificate(&second).0, key, "a new certificate has a new key");
}

fn certificate(update: &Update) -> (String, String) {
    let resource = update.added.iter().find(|r| r.name == names::SECRET_DEFAULT).unwrap();
    let Some(Type::TlsCertificate(tls)) = Secret::decode(resource.body.value.as_ref()).unwrap().r#type else { panic!("no certificate") };
    let text = |source: Option<lateen_envoy_api::envoy::config::core::v3::DataSource>| match source.unwrap().specifier {
        Some(Specifier::InlineBytes(bytes)) => String::from_utf8(bytes.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    };
    (text(tls.private_key), text(tls.certificate_chain))
}

#[tokio::test]
async fn a_control_plane_with_another_root_gets_no_token() {
    let folder = folder("trust");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = upstream(&folder.0, &root().pem, listener.local_addr().unwrap().port());
    let (app, _pushes, _nodes) = app();
    serve(listener, root(), Duration::from_secs(60), app);
    let error = upstream.connect().await.unwrap_err().to_string();
    assert!(error.contains("certificate"), "{error}");
}

#[tokio::test]
async fn the_relay_waits_for_the_control_plane_and_comes_back_after_a_loss() {
    let folder = folder("relay");
    let root = root();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let upstream = upstream(&folder.0, &root.pem, address.port());
    let socket = folder.0.join(names::XDS_SOCKET);
    tokio::spawn(relay::serve(unix_listener(&socket).unwrap(), upstream));
    let node = Node { id: "me".into(), ..Default::default() };
    let (handle, mut events) = client::start(client::Options::new(node, Protocol::Delta, client::unix(&socket)));
    handle.subscribe_all(types::CLUSTER).await;

    let (first_app, _pushes, mut nodes) = app();
    let running = serve(TcpListener::bind(address).await.unwrap(), Arc::clone(&root), Duration::from_secs(60), first_app);
    let first = update(&mut events).await;
    assert_eq!((nodes.recv().await.as_deref(), first.added.len()), (Some("me"), 1));
    handle.ack(&first).await;

    running.abort();
    let _ = running.await;
    drop(_pushes);
    while !matches!(events.recv().await.unwrap(), Event::Disconnected { .. }) {}
    let (second_app, pushes, mut nodes) = app();
    serve(TcpListener::bind(address).await.unwrap(), root, Duration::from_secs(60), second_app);
    assert_eq!(nodes.recv().await.as_deref(), Some("me"));
    pushes.send_replace(Some(push(2)));
    assert_eq!(update(&mut events).await.added[0].version, "0000000000000002");
}
