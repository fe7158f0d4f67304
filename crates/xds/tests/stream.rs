//! Client and server against each other over a unix socket.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use lateen_envoy_api::Any;
use lateen_envoy_api::envoy::config::core::v3::Node;
use lateen_xds::client::{self, Event};
use lateen_xds::server::{Application, Connection, Observer, Peer, Push, Xds};
use lateen_xds::server_session::{Received, TypeStatus};
use lateen_xds::{Protocol, Resource, Response, Sets, Update, types};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tonic::Status;

struct App {
    pushes: watch::Receiver<Option<Arc<Push>>>,
    seen: mpsc::UnboundedSender<Received>,
}

struct Seen(mpsc::UnboundedSender<Received>);

impl Observer for Seen {
    fn received(&mut self, _: &str, received: &Received) {
        let _ = self.0.send(received.clone());
    }
    fn sent(&mut self, _: &Response) {}
    fn status(&mut self, _: BTreeMap<String, TypeStatus>) {}
}

impl Application for App {
    fn connect(&self, _: &Peer, node: &Node, _: Protocol) -> Result<Connection, Status> {
        if node.id == "stranger" {
            return Err(Status::permission_denied("not you"));
        }
        Ok(Connection { pushes: self.pushes.clone(), observer: Box::new(Seen(self.seen.clone())) })
    }
}

struct Server {
    path: PathBuf,
    pushes: watch::Sender<Option<Arc<Push>>>,
    seen: mpsc::UnboundedReceiver<Received>,
    task: tokio::task::JoinHandle<()>,
}

fn serve(name: &str) -> Server {
    let path = std::env::temp_dir().join(format!("lateen-xds-{}-{name}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let (pushes, receiver) = watch::channel(None);
    let (seen_tx, seen) = mpsc::unbounded_channel();
    let xds = Xds::new(Arc::new(App { pushes: receiver, seen: seen_tx }));
    let incoming = tokio_stream::wrappers::UnixListenerStream::new(listener);
    let task = tokio::spawn(async move {
        let server = tonic::transport::Server::builder().add_service(xds.aggregated());
        let _ = server.serve_with_incoming(incoming).await;
    });
    Server { path, pushes, seen, task }
}

fn push(version: u64) -> Option<Arc<Push>> {
    let body = Any { type_url: types::CLUSTER.into(), value: b"\x0a\x01a".to_vec().into() };
    let set = BTreeMap::from([("a".to_owned(), Resource { version, body })]);
    Some(Arc::new(Push { version: version.to_string(), sets: Sets::from([(types::CLUSTER.to_owned(), set)]) }))
}

fn options(server: &Server, protocol: Protocol, id: &str) -> client::Options {
    client::Options::new(Node { id: id.into(), ..Default::default() }, protocol, client::unix(&server.path))
}

async fn update(events: &mut mpsc::Receiver<Event>) -> Update {
    loop {
        match events.recv().await.unwrap() {
            Event::Update(update) => return update,
            Event::Connected => {}
            Event::Disconnected { error, .. } => panic!("{error}"),
        }
    }
}

async fn both_ways(protocol: Protocol, name: &str) {
    let mut server = serve(name);
    let (handle, mut events) = client::start(options(&server, protocol, "me"));
    handle.subscribe_all(types::CLUSTER).await;
    assert_eq!(server.seen.recv().await, Some(Received::Subscribed));
    server.pushes.send_replace(push(1));
    let first = update(&mut events).await;
    assert_eq!(first.added[0].name, "a");
    handle.ack(&first).await;
    assert_eq!(server.seen.recv().await, Some(Received::Acked));
    server.pushes.send_replace(push(2));
    let second = update(&mut events).await;
    handle.nack(&second, vec!["a".into()], "because".into()).await;
    assert_eq!(server.seen.recv().await, Some(Received::Nacked("because".into())));
    std::fs::remove_file(&server.path).unwrap();
}

#[tokio::test]
async fn delta_updates_are_acknowledged_and_refused() {
    both_ways(Protocol::Delta, "delta").await;
}

#[tokio::test]
async fn state_of_the_world_updates_are_acknowledged_and_refused() {
    both_ways(Protocol::Sotw, "sotw").await;
}

#[tokio::test]
async fn a_stranger_is_told_why() {
    let server = serve("stranger");
    let (handle, mut events) = client::start(options(&server, Protocol::Delta, "stranger"));
    handle.subscribe_all(types::CLUSTER).await;
    loop {
        if let Event::Disconnected { error, .. } = events.recv().await.unwrap() {
            assert!(error.contains("not you"), "{error}");
            break;
        }
    }
    std::fs::remove_file(&server.path).unwrap();
}

#[tokio::test]
async fn after_a_restart_of_the_server_only_differences_come() {
    let server = serve("restart");
    let (handle, mut events) = client::start(options(&server, Protocol::Delta, "me"));
    handle.subscribe_all(types::CLUSTER).await;
    server.pushes.send_replace(push(1));
    let first = update(&mut events).await;
    handle.ack(&first).await;
    // The stream breaks because its server is gone.
    let Server { pushes, task, .. } = server;
    drop(pushes);
    task.abort();
    while !matches!(events.recv().await.unwrap(), Event::Disconnected { .. }) {}
    let server = serve("restart");
    server.pushes.send_replace(push(1));
    while !matches!(events.recv().await.unwrap(), Event::Connected) {}
    server.pushes.send_replace(push(2));
    let next = update(&mut events).await;
    assert_eq!(next.added[0].version, "0000000000000002");
    std::fs::remove_file(&server.path).unwrap();
}
