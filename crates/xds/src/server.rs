//! The xDS server on gRPC: one task per stream, driven by a session and by whatever publishes resource sets.
//!
//! - Reads: `AggregatedDiscoveryService` and `SecretDiscoveryService`, delta and state of the world.
//! - Twin: `xds/src/client.rs`.
//! - Rule: everything the protocol means is in [`ServerSession`]. A stream is answered only when its application has published a first
//!   state: nothing is ever sent that only looks empty.
//! - Rule: states are published through a `watch` channel, so a slow proxy skips intermediate states instead of queueing them.
//! - Limits: `RESPONSES_MAX` responses wait for a slow proxy, `REQUEST_BYTES_MAX` per request.
//! - Not here: who may connect and what is sent ([`Application`], implemented by `control` and by the agent's SDS).

use crate::r#gen::envoy::service::discovery::v3::aggregated_discovery_service_server as ads;
use crate::r#gen::envoy::service::secret::v3::secret_discovery_service_server as sds;
use crate::server_session::{Received, TypeStatus};
use crate::{Protocol, Request, Response, ServerSession, Sets};
use futures::{Stream, StreamExt};
use lateen_envoy_api::envoy::config::core::v3::Node;
use lateen_envoy_api::envoy::service::discovery::v3 as pb;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Extensions, Status, Streaming};

/// Responses that may wait in a stream.
pub const RESPONSES_MAX: usize = 8;
/// One request: a subscription to the largest allowed number of names.
pub const REQUEST_BYTES_MAX: usize = 32 << 20;

/// One state to bring a proxy to.
#[derive(Debug)]
pub struct Push {
    /// Name of the state; informative.
    pub version: String,
    /// Everything the proxy is to have.
    pub sets: Sets,
}

/// What is known of a caller besides what it says of itself.
pub struct Peer {
    /// Call metadata (`authorization`, …).
    pub metadata: MetadataMap,
    /// What the listener attached (addresses, client certificate).
    pub extensions: Extensions,
}

/// Sees what happens on one stream; dropped when the stream ends.
pub trait Observer: Send + 'static {
    /// A request arrived and meant this.
    fn received(&mut self, type_url: &str, received: &Received);
    /// A response is on its way.
    fn sent(&mut self, response: &Response);
    /// How each type stands after the last step.
    fn status(&mut self, status: BTreeMap<String, TypeStatus>);
}

/// One accepted stream.
pub struct Connection {
    /// The states to push, newest only; `None` until the first is known.
    pub pushes: watch::Receiver<Option<Arc<Push>>>,
    /// Told of every step.
    pub observer: Box<dyn Observer>,
}

/// Decides who is served what.
pub trait Application: Send + Sync + 'static {
    /// A stream's first request arrived.
    ///
    /// # Errors
    /// The status to end the stream with, for example `PermissionDenied`.
    fn connect(&self, peer: &Peer, node: &Node, protocol: Protocol) -> Result<Connection, Status>;
}

/// The gRPC face of an [`Application`].
pub struct Xds<A> {
    application: Arc<A>,
    streams: Arc<AtomicU64>,
}

impl<A> Clone for Xds<A> {
    fn clone(&self) -> Self {
        Self { application: Arc::clone(&self.application), streams: Arc::clone(&self.streams) }
    }
}

impl<A: Application> Xds<A> {
    /// Serves `application`.
    #[must_use]
    pub fn new(application: Arc<A>) -> Self {
        Self { application, streams: Arc::new(AtomicU64::new(0)) }
    }

    /// The aggregated service, to add to a tonic server.
    #[must_use]
    pub fn aggregated(&self) -> ads::AggregatedDiscoveryServiceServer<Self> {
        ads::AggregatedDiscoveryServiceServer::new(self.clone()).max_decoding_message_size(REQUEST_BYTES_MAX)
    }

    /// The secrets service, to add to a tonic server.
    #[must_use]
    pub fn secrets(&self) -> sds::SecretDiscoveryServiceServer<Self> {
        sds::SecretDiscoveryServiceServer::new(self.clone()).max_decoding_message_size(REQUEST_BYTES_MAX)
    }

    /// Runs one stream in a task of its own, which ends with the stream.
    fn serve<Req, Resp>(&self, request: tonic::Request<Streaming<Req>>, protocol: Protocol, unwrap: fn(Response) -> Option<Resp>) -> Outgoing<Resp>
    where
        Req: Into<Request> + Send + 'static,
        Resp: Send + 'static,
    {
        let (metadata, extensions, requests) = request.into_parts();
        let (responses, receiver) = mpsc::channel(RESPONSES_MAX);
        let number = self.streams.fetch_add(1, Ordering::Relaxed);
        let task = StreamTask {
            application: Arc::clone(&self.application),
            peer: Peer { metadata, extensions },
            protocol,
            nonce_prefix: format!("{:x}-{number}", std::process::id()),
        };
        tokio::spawn(async move {
            let requests = requests.map(|r| r.map(Into::into));
            if let Err(status) = task.run(requests, &responses, unwrap).await {
                // A failed send means the proxy has gone, which is what the status would have told it.
                let _ = responses.send(Err(status)).await;
            }
        });
        Box::pin(ReceiverStream::new(receiver))
    }
}

type Outgoing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

struct StreamTask<A> {
    application: Arc<A>,
    peer: Peer,
    protocol: Protocol,
    nonce_prefix: String,
}

impl<A: Application> StreamTask<A> {
    async fn run<Resp>(
        self,
        mut requests: impl Stream<Item = Result<Request, Status>> + Unpin,
        responses: &mpsc::Sender<Result<Resp, Status>>,
        unwrap: fn(Response) -> Option<Resp>,
    ) -> Result<(), Status> {
        let Some(first) = requests.next().await else { return Ok(()) };
        let first = first?;
        let Some(node) = first.node() else {
            return Err(Status::invalid_argument("the first request of a stream carries no node; set DiscoveryRequest.node"));
        };
        let Connection { mut pushes, mut observer } = self.application.connect(&self.peer, node, self.protocol)?;
        let mut session = ServerSession::new(self.protocol, self.nonce_prefix);
        step(&mut session, &first, &mut *observer)?;
        loop {
            let push = pushes.borrow_and_update().clone();
            if let Some(push) = push {
                for response in session.push(&push.sets, &push.version) {
                    observer.sent(&response);
                    if let Some(response) = unwrap(response)
                        && responses.send(Ok(response)).await.is_err()
                    {
                        return Ok(());
                    }
                }
            }
            observer.status(session.status());
            // Both arms are cancel-safe. Requests come first: they are answers the pushes may be waiting for.
            tokio::select! {
                biased;
                request = requests.next() => match request {
                    Some(request) => step(&mut session, &request?, &mut *observer)?,
                    None => return Ok(()),
                },
                changed = pushes.changed() => if changed.is_err() {
                    return Err(Status::unavailable("the control plane is shutting down"));
                },
                () = responses.closed() => return Ok(()),
            }
        }
    }
}

fn step(session: &mut ServerSession, request: &Request, observer: &mut dyn Observer) -> Result<(), Status> {
    let received = session.receive(request);
    observer.received(request.type_url(), &received);
    match received {
        Received::Refused(reason) => Err(Status::invalid_argument(reason)),
        Received::Subscribed | Received::Acked | Received::Nacked(_) | Received::Stale => Ok(()),
    }
}

fn delta(response: Response) -> Option<pb::DeltaDiscoveryResponse> {
    match response {
        Response::Delta(r) => Some(*r),
        Response::Sotw(_) => None,
    }
}

fn sotw(response: Response) -> Option<pb::DiscoveryResponse> {
    match response {
        Response::Sotw(r) => Some(*r),
        Response::Delta(_) => None,
    }
}

#[tonic::async_trait]
impl<A: Application> ads::AggregatedDiscoveryService for Xds<A> {
    type StreamAggregatedResourcesStream = Outgoing<pb::DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Outgoing<pb::DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: tonic::Request<Streaming<pb::DiscoveryRequest>>,
    ) -> Result<tonic::Response<Self::StreamAggregatedResourcesStream>, Status> {
        Ok(tonic::Response::new(self.serve(request, Protocol::Sotw, sotw)))
    }

    async fn delta_aggregated_resources(
        &self,
        request: tonic::Request<Streaming<pb::DeltaDiscoveryRequest>>,
    ) -> Result<tonic::Response<Self::DeltaAggregatedResourcesStream>, Status> {
        Ok(tonic::Response::new(self.serve(request, Protocol::Delta, delta)))
    }
}

#[tonic::async_trait]
impl<A: Application> sds::SecretDiscoveryService for Xds<A> {
    type DeltaSecretsStream = Outgoing<pb::DeltaDiscoveryResponse>;
    type StreamSecretsStream = Outgoing<pb::DiscoveryResponse>;

    async fn delta_secrets(
        &self,
        request: tonic::Request<Streaming<pb::DeltaDiscoveryRequest>>,
    ) -> Result<tonic::Response<Self::DeltaSecretsStream>, Status> {
        Ok(tonic::Response::new(self.serve(request, Protocol::Delta, delta)))
    }

    async fn stream_secrets(
        &self,
        request: tonic::Request<Streaming<pb::DiscoveryRequest>>,
    ) -> Result<tonic::Response<Self::StreamSecretsStream>, Status> {
        Ok(tonic::Response::new(self.serve(request, Protocol::Sotw, sotw)))
    }

    async fn fetch_secrets(&self, _: tonic::Request<pb::DiscoveryRequest>) -> Result<tonic::Response<pb::DiscoveryResponse>, Status> {
        Err(Status::unimplemented("FetchSecrets is not served; use StreamSecrets or DeltaSecrets"))
    }
}
