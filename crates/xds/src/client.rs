//! The xDS client on gRPC: keeps one stream to a control plane, hands out updates, takes verdicts, reconnects.
//!
//! - Reads: `AggregatedDiscoveryService` or, for secrets from a local socket, `SecretDiscoveryService`.
//! - Twin: `xds/src/server.rs`.
//! - Rule: everything the protocol means is in [`ClientSession`]; here only bytes move.
//! - Rule: both queues are bounded; while the consumer is busy with an update, its commands are still taken, so neither side can wait for the other.
//! - Limits: `EVENTS_MAX` waiting events, `COMMANDS_MAX` waiting commands, `MESSAGE_BYTES_MAX` per message.
//!
//! ```no_run
//! # async fn f(node: lateen_envoy_api::envoy::config::core::v3::Node) {
//! use lateen_xds::{client, types, Protocol};
//! let options = client::Options::new(node, Protocol::Delta, client::unix("/run/lateen-proxy/XDS"));
//! let (handle, mut events) = client::start(options);
//! handle.subscribe_all(types::CLUSTER).await;
//! while let Some(event) = events.recv().await {
//!     if let client::Event::Update(update) = event {
//!         // learn names, handle.set_names(types::ENDPOINT, names).await, then:
//!         handle.ack(&update).await;
//!     }
//! }
//! # }
//! ```

use crate::backoff::Backoff;
use crate::r#gen::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use crate::r#gen::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use crate::{ClientSession, Protocol, Request, Response, Update};
use futures::future::BoxFuture;
use lateen_envoy_api::envoy::config::core::v3::Node;
use lateen_envoy_api::envoy::service::discovery::v3 as pb;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

/// Updates that may wait for the consumer; beyond, the stream itself waits (HTTP/2 flow control).
pub const EVENTS_MAX: usize = 16;
/// Commands that may wait for the client.
pub const COMMANDS_MAX: usize = 64;
/// Requests that may wait for the stream.
const REQUESTS_MAX: usize = 16;
/// How long a stream may take to open.
const OPENING_MAX: Duration = Duration::from_secs(30);
/// One message: the endpoints of a large mesh fit many times over.
pub const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// Any byte stream to a control plane.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// Opens a byte stream to the control plane; called for each attempt.
pub type Connector = Arc<dyn Fn() -> BoxFuture<'static, std::io::Result<Box<dyn Io>>> + Send + Sync>;
/// Adds call metadata, for example a bearer token, at the start of each stream.
pub type Authorize = Arc<dyn Fn(&mut MetadataMap) + Send + Sync>;

/// A connector to a unix socket.
#[must_use]
pub fn unix(path: impl Into<PathBuf>) -> Connector {
    let path = Arc::new(path.into());
    Arc::new(move || {
        let path = Arc::clone(&path);
        Box::pin(async move { tokio::net::UnixStream::connect(path.as_path()).await.map(|s| Box::new(s) as Box<dyn Io>) })
    })
}

/// A connector to a TCP address (`host:port`), with no socket mark. A proxy that intercepts its own host needs one of its own.
#[must_use]
pub fn tcp(address: impl Into<String>) -> Connector {
    let address: Arc<str> = address.into().into();
    Arc::new(move || {
        let address = Arc::clone(&address);
        Box::pin(async move {
            let stream = tokio::net::TcpStream::connect(&*address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Io>)
        })
    })
}

/// Which gRPC service to call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// `AggregatedDiscoveryService`: all types on one stream.
    Aggregated,
    /// `SecretDiscoveryService`: secrets only (the agent's socket).
    Secret,
}

/// How to reach and talk to a control plane.
#[derive(Clone)]
pub struct Options {
    /// Who asks.
    pub node: Node,
    /// Delta or state of the world.
    pub protocol: Protocol,
    /// Aggregated or secrets only.
    pub service: Service,
    /// Opens the byte stream.
    pub connector: Connector,
    /// Adds call metadata.
    pub authorize: Option<Authorize>,
    /// First and longest wait between attempts.
    pub backoff: (Duration, Duration),
}

impl Options {
    /// Aggregated discovery without call metadata, waits from 50 ms to 5 s.
    #[must_use]
    pub fn new(node: Node, protocol: Protocol, connector: Connector) -> Self {
        Self {
            node,
            protocol,
            service: Service::Aggregated,
            connector,
            authorize: None,
            backoff: (Duration::from_millis(50), Duration::from_secs(5)),
        }
    }
}

/// What the client tells its consumer.
#[derive(Debug)]
pub enum Event {
    /// A stream is open.
    Connected,
    /// A response arrived; it must be answered by [`Handle::ack`] or [`Handle::nack`].
    Update(Update),
    /// The stream ended or could not be opened; the client tries again after `retry_in`. Verdicts on earlier updates are moot but harmless.
    Disconnected {
        /// What went wrong.
        error: String,
        /// Wait before the next attempt.
        retry_in: Duration,
    },
}

enum Command {
    SubscribeAll(String),
    Subscribe(String, Vec<String>),
    Unsubscribe(String, Vec<String>),
    SetNames(String, BTreeSet<String>),
    Ack { type_url: String, nonce: String },
    Nack { type_url: String, nonce: String, refused: Vec<String>, detail: String },
}

/// Speaks to a running client. When the last clone is dropped the client stops. Calls after its end do nothing.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
}

impl Handle {
    /// Ask for all resources of a type.
    pub async fn subscribe_all(&self, type_url: &str) {
        self.send(Command::SubscribeAll(type_url.to_owned())).await;
    }
    /// Ask for resources by name, in addition.
    pub async fn subscribe(&self, type_url: &str, names: Vec<String>) {
        self.send(Command::Subscribe(type_url.to_owned(), names)).await;
    }
    /// Stop asking for resources by name.
    pub async fn unsubscribe(&self, type_url: &str, names: Vec<String>) {
        self.send(Command::Unsubscribe(type_url.to_owned(), names)).await;
    }
    /// Make the named subscription of a type exactly `names`. Call before acknowledging the update that taught them.
    pub async fn set_names(&self, type_url: &str, names: BTreeSet<String>) {
        self.send(Command::SetNames(type_url.to_owned(), names)).await;
    }
    /// The update is in force.
    pub async fn ack(&self, update: &Update) {
        self.send(Command::Ack { type_url: update.type_url.clone(), nonce: update.nonce.clone() }).await;
    }
    /// The resources named in `refused` were not taken, the rest of the update is in force; `detail` says why and travels to the control plane.
    pub async fn nack(&self, update: &Update, refused: Vec<String>, detail: String) {
        self.send(Command::Nack { type_url: update.type_url.clone(), nonce: update.nonce.clone(), refused, detail }).await;
    }
    async fn send(&self, command: Command) {
        // An error means the client has ended; its `Disconnected` or closed channel says so to the consumer.
        let _ = self.commands.send(command).await;
    }
}

/// Starts a client on the current tokio runtime. It ends when all handles or the receiver are dropped.
#[must_use]
pub fn start(options: Options) -> (Handle, mpsc::Receiver<Event>) {
    let (commands, command_rx) = mpsc::channel(COMMANDS_MAX);
    let (event_tx, events) = mpsc::channel(EVENTS_MAX);
    let session = ClientSession::new(options.protocol, options.node.clone());
    tokio::spawn(Client { options, session, commands: command_rx, events: event_tx }.run());
    (Handle { commands }, events)
}

struct Client {
    options: Options,
    session: ClientSession,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
}

/// Why a stream ended.
enum End {
    /// Nobody wants the client any more.
    Stop,
    /// The stream broke after it had delivered something (`true`) or before (`false`).
    Broken(String, bool),
}

impl Client {
    async fn run(mut self) {
        let mut backoff = Backoff::new(self.options.backoff.0, self.options.backoff.1);
        loop {
            if self.wanted().await.is_err() {
                return;
            }
            let end = self.attempt().await;
            self.session.disconnected();
            let End::Broken(error, worked) = end else { return };
            if worked {
                backoff.reset();
            }
            let retry_in = backoff.next(jitter());
            tracing::debug!(%error, ?retry_in, "xDS stream ended");
            if self.deliver(Event::Disconnected { error, retry_in }).await.is_err() || self.wait(retry_in).await.is_err() {
                return;
            }
        }
    }

    /// Waits for the first subscription: a stream without one would only be held open.
    async fn wanted(&mut self) -> Result<(), ()> {
        while !self.session.is_subscribed() {
            match self.commands.recv().await {
                Some(command) => self.command(command),
                None => return Err(()),
            }
        }
        Ok(())
    }

    async fn attempt(&mut self) -> End {
        let channel = match connect(&self.options.connector).await {
            Ok(channel) => channel,
            Err(error) => return End::Broken(error, false),
        };
        let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
        self.session.connected();
        let options = self.options.clone();
        let opening = tokio::time::timeout(OPENING_MAX, open_stream(channel, &options, receiver));
        tokio::pin!(opening);
        // Some servers answer with headers only after the first request, so requests must flow before the stream counts as open.
        loop {
            self.flush(&requests);
            tokio::select! {
                opened = &mut opening => return match opened {
                    Ok(Ok(responses)) => self.converse(requests, responses).await,
                    Ok(Err(status)) => End::Broken(describe(&status), false),
                    Err(_) => End::Broken(format!("the control plane did not open the stream within {OPENING_MAX:?}"), false),
                },
                command = self.commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => return End::Stop,
                },
            }
        }
    }

    /// Moves what the session wants to say into the stream, as far as there is room.
    fn flush(&mut self, requests: &mpsc::Sender<Request>) {
        while let Ok(permit) = requests.try_reserve() {
            let Some(request) = self.session.next_request() else { return };
            permit.send(request);
        }
    }

    async fn converse(&mut self, requests: mpsc::Sender<Request>, mut responses: Responses) -> End {
        let events = self.events.clone();
        let mut waiting = Some(Event::Connected);
        let mut worked = false;
        loop {
            self.flush(&requests);
            let blocked = self.session.has_request();
            // Every arm is cancel-safe: `recv`, `reserve` and `message` lose nothing when dropped.
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => return End::Stop,
                },
                permit = requests.reserve(), if blocked => drop(permit),
                permit = events.reserve(), if waiting.is_some() => match (permit, waiting.take()) {
                    (Ok(permit), Some(event)) => permit.send(event),
                    (Ok(_), None) => {}
                    (Err(_), _) => return End::Stop,
                },
                response = responses.next(), if waiting.is_none() => match response {
                    Ok(Some(response)) => {
                        worked = true;
                        match self.session.receive(response) {
                            Ok(update) => waiting = Some(Event::Update(update)),
                            Err(error) => return End::Broken(error.to_string(), worked),
                        }
                    }
                    Ok(None) => return End::Broken("the control plane closed the stream".to_owned(), worked),
                    Err(status) => return End::Broken(describe(&status), worked),
                },
            }
        }
    }

    /// Hands an event over while still taking commands.
    async fn deliver(&mut self, event: Event) -> Result<(), ()> {
        let events = self.events.clone();
        let mut event = Some(event);
        loop {
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => return Err(()),
                },
                permit = events.reserve() => {
                    if let (Ok(permit), Some(event)) = (permit, event.take()) {
                        permit.send(event);
                        return Ok(());
                    }
                    return Err(());
                }
            }
        }
    }

    /// Waits while still taking commands.
    async fn wait(&mut self, span: Duration) -> Result<(), ()> {
        let sleep = tokio::time::sleep(span);
        tokio::pin!(sleep);
        loop {
            tokio::select! {
                () = &mut sleep => return Ok(()),
                command = self.commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => return Err(()),
                },
            }
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::SubscribeAll(t) => self.session.subscribe_all(&t),
            Command::Subscribe(t, names) => self.session.subscribe(&t, names),
            Command::Unsubscribe(t, names) => self.session.unsubscribe(&t, names),
            Command::SetNames(t, names) => self.session.set_names(&t, &names),
            Command::Ack { type_url, nonce } => self.session.ack(&type_url, &nonce),
            Command::Nack { type_url, nonce, refused, detail } => self.session.nack(&type_url, &nonce, &refused, &detail),
        }
    }
}

enum Responses {
    Delta(Streaming<pb::DeltaDiscoveryResponse>),
    Sotw(Streaming<pb::DiscoveryResponse>),
}

impl Responses {
    async fn next(&mut self) -> Result<Option<Response>, Status> {
        Ok(match self {
            Self::Delta(s) => s.message().await?.map(Response::from),
            Self::Sotw(s) => s.message().await?.map(Response::from),
        })
    }
}

/// Opens an HTTP/2 connection over whatever `connector` gives.
///
/// # Errors
/// What the connector or the HTTP/2 handshake reported.
pub async fn connect(connector: &Connector) -> Result<Channel, String> {
    let connector = Arc::clone(connector);
    let service = tower::service_fn(move |_: tonic::transport::Uri| {
        let opening = connector();
        async move { opening.await.map(hyper_util::rt::TokioIo::new) }
    });
    Endpoint::from_static("http://control-plane.invalid")
        .connect_timeout(Duration::from_secs(10))
        .http2_keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true)
        .connect_with_connector(service)
        .await
        .map_err(|e| chain(&e))
}

async fn open_stream(channel: Channel, options: &Options, requests: mpsc::Receiver<Request>) -> Result<Responses, Status> {
    use futures::StreamExt;
    let stream = ReceiverStream::new(requests);
    macro_rules! call {
        ($client:ty, $method:ident, $variant:ident) => {{
            let messages = stream.filter_map(|r| std::future::ready(if let Request::$variant(r) = r { Some(*r) } else { None }));
            let mut request = tonic::Request::new(messages);
            if let Some(authorize) = &options.authorize {
                authorize(request.metadata_mut());
            }
            let mut client = <$client>::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
            Responses::$variant(client.$method(request).await?.into_inner())
        }};
    }
    Ok(match (options.service, options.protocol) {
        (Service::Aggregated, Protocol::Delta) => call!(AggregatedDiscoveryServiceClient<Channel>, delta_aggregated_resources, Delta),
        (Service::Aggregated, Protocol::Sotw) => call!(AggregatedDiscoveryServiceClient<Channel>, stream_aggregated_resources, Sotw),
        (Service::Secret, Protocol::Delta) => call!(SecretDiscoveryServiceClient<Channel>, delta_secrets, Delta),
        (Service::Secret, Protocol::Sotw) => call!(SecretDiscoveryServiceClient<Channel>, stream_secrets, Sotw),
    })
}

fn describe(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

/// An error with the errors that caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// A draw in 0.0..1.0. The standard library's hasher seed is random per instance, which is all jitter needs.
#[must_use]
pub fn jitter() -> f64 {
    use std::hash::{BuildHasher, Hasher};
    let bits = std::collections::hash_map::RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(bits >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}
