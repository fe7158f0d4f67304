//! The client's half of one xDS conversation, without I/O: subscriptions and verdicts in, requests out; responses in, updates out.
//!
//! - Reads: `DeltaDiscoveryResponse`, `DiscoveryResponse`.
//! - Twin: `xds/src/server_session.rs`, the other end.
//! - Rule: the node is sent on a stream's first message only; each response is answered exactly once, by ACK or NACK;
//!   after a reconnect the versions already held are quoted, so that only differences come.
//! - Rule: a caller that learns new names from an update subscribes to them *before* it acknowledges that update; the server then
//!   holds back what refers to them until they were answered.
//! - Limits: `TYPES_MAX` types, `NAMES_MAX` names per type, `DETAIL_BYTES_MAX` of refusal text.
//! - Not here: the stream (`client.rs`), what a resource means.

use crate::message::{Protocol, Request, Response};
use crate::types;
use lateen_envoy_api::Any;
use lateen_envoy_api::envoy::config::core::v3::Node;
use lateen_envoy_api::envoy::service::discovery::v3 as pb;
use lateen_envoy_api::google::rpc;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

/// Types one conversation may subscribe to.
pub const TYPES_MAX: usize = 32;
/// Names one type may be subscribed to; a mesh of that size needs sharding before it needs a larger number.
pub const NAMES_MAX: usize = 200_000;
/// Refusal text is cut here: it is for people, and travels in every proxy's status.
pub const DETAIL_BYTES_MAX: usize = 4096;
/// gRPC's `INVALID_ARGUMENT`, the code a refusal carries.
const INVALID_ARGUMENT: i32 = 3;

/// One resource of an update.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// Resource name; empty for a type with a single unnamed resource.
    pub name: String,
    /// Version of this resource (delta) or of the whole response (state of the world).
    pub version: String,
    /// The resource.
    pub body: Any,
}

/// What one response changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// Resource type.
    pub type_url: String,
    /// New or changed resources. In the state-of-the-world protocol unchanged ones too.
    pub added: Vec<Named>,
    /// Names that are gone, or were asked for and do not exist. For state of the world computed from the set held before.
    pub removed: Vec<String>,
    /// To be quoted by [`ClientSession::ack`] or [`ClientSession::nack`].
    pub nonce: String,
    /// The server's name for this state; informative.
    pub version: String,
}

/// Why a response cannot be used at all.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ProtocolError {
    /// The response is of the other protocol than this stream's.
    #[error("a response of the other xDS protocol than the stream's; the server mixes delta and state of the world")]
    WrongProtocol,
    /// A response for a type that was never asked for.
    #[error("a response for {0}, which was never subscribed to")]
    NotSubscribed(String),
}

#[derive(Default, Debug)]
struct TypeState {
    wildcard: bool,
    names: BTreeSet<String>,
    /// Accepted resources and their versions.
    held: BTreeMap<String, String>,
    /// Names to add or drop in the next delta request.
    subscribe: BTreeSet<String>,
    unsubscribe: BTreeSet<String>,
    /// The subscription changed since the last request (state of the world).
    changed: bool,
    /// A first request was made on this stream.
    started: bool,
    version: String,
    nonce: String,
    /// Responses that wait for the caller's verdict: nonce, version, added names and versions, removed names.
    pending: VecDeque<Pending>,
    verdicts: VecDeque<Verdict>,
}

#[derive(Debug)]
struct Pending {
    nonce: String,
    version: String,
    added: Vec<(String, String)>,
    removed: Vec<String>,
}

#[derive(Debug)]
struct Verdict {
    nonce: String,
    error: Option<String>,
}

/// One client's conversation, over as many streams as it takes.
#[derive(Debug)]
pub struct ClientSession {
    protocol: Protocol,
    node: Node,
    node_sent: bool,
    connected: bool,
    types: BTreeMap<String, TypeState>,
    /// Types in the order of first subscription: their first requests go out in it.
    order: Vec<String>,
}

impl ClientSession {
    /// A conversation that has not started.
    #[must_use]
    pub fn new(protocol: Protocol, node: Node) -> Self {
        Self { protocol, node, node_sent: false, connected: false, types: BTreeMap::new(), order: Vec::new() }
    }

    /// Ask for every resource of a type.
    pub fn subscribe_all(&mut self, type_url: &str) {
        if let Some(state) = self.state(type_url) {
            if state.wildcard {
                return;
            }
            state.wildcard = true;
            state.changed = true;
            if state.started {
                state.subscribe.insert("*".to_owned());
            }
        }
    }

    /// Ask for resources by name, in addition to those asked for before. Names already asked for are not asked for again.
    pub fn subscribe(&mut self, type_url: &str, names: impl IntoIterator<Item = String>) {
        let Some(state) = self.state(type_url) else { return };
        for name in names {
            if state.names.len() < NAMES_MAX && state.names.insert(name.clone()) {
                state.changed = true;
                state.unsubscribe.remove(&name);
                state.subscribe.insert(name);
            }
        }
    }

    /// Stop asking for resources by name; what was held under them is forgotten.
    pub fn unsubscribe(&mut self, type_url: &str, names: impl IntoIterator<Item = String>) {
        let Some(state) = self.types.get_mut(type_url) else { return };
        for name in names {
            if state.names.remove(&name) {
                state.changed = true;
                if !state.wildcard {
                    state.held.remove(&name);
                }
                if !state.subscribe.remove(&name) || state.started {
                    state.unsubscribe.insert(name);
                }
            }
        }
    }

    /// Make the named subscription of a type exactly `names`.
    pub fn set_names(&mut self, type_url: &str, names: &BTreeSet<String>) {
        let old = self.types.get(type_url).map(|s| s.names.clone()).unwrap_or_default();
        self.subscribe(type_url, names.difference(&old).cloned());
        self.unsubscribe(type_url, old.difference(names).cloned());
    }

    /// A new stream is open: everything subscribed to is asked for anew, quoting what is held.
    pub fn connected(&mut self) {
        self.connected = true;
        self.node_sent = false;
        for state in self.types.values_mut() {
            state.started = false;
            state.nonce.clear();
            state.pending.clear();
            state.verdicts.clear();
        }
    }

    /// The stream is gone; what is held stays held.
    pub fn disconnected(&mut self) {
        self.connected = false;
    }

    /// Whether anything is subscribed to.
    #[must_use]
    pub fn is_subscribed(&self) -> bool {
        self.types.values().any(|s| s.wildcard || !s.names.is_empty())
    }

    /// Whether [`next_request`](Self::next_request) would give one.
    #[must_use]
    pub fn has_request(&self) -> bool {
        self.connected && self.types.values().any(|s| has_subscription(s, self.protocol) || !s.verdicts.is_empty())
    }

    /// The next request to send on the open stream, if any.
    pub fn next_request(&mut self) -> Option<Request> {
        if !self.connected {
            return None;
        }
        // Subscriptions of every type go before verdicts of any: the server must know what it is asked for before it moves on.
        let wants = |f: fn(&TypeState, Protocol) -> bool| self.order.iter().find(|t| self.types.get(*t).is_some_and(|s| f(s, self.protocol)));
        let type_url = wants(has_subscription).or_else(|| wants(|s, _| !s.verdicts.is_empty()))?.clone();
        let state = self.types.get_mut(&type_url)?;
        let node = if self.node_sent { None } else { Some(self.node.clone()) };
        self.node_sent = true;
        Some(match self.protocol {
            Protocol::Delta => Request::Delta(Box::new(delta_request(state, type_url, node))),
            Protocol::Sotw => Request::Sotw(Box::new(sotw_request(state, type_url, node))),
        })
    }

    /// Takes a response. The caller owes an [`ack`](Self::ack) or [`nack`](Self::nack) with the update's nonce.
    ///
    /// # Errors
    /// [`ProtocolError`] when the response cannot belong to this stream; the stream should be closed.
    pub fn receive(&mut self, response: Response) -> Result<Update, ProtocolError> {
        let type_url = response.type_url().to_owned();
        let Some(state) = self.types.get_mut(&type_url) else {
            return Err(ProtocolError::NotSubscribed(type_url));
        };
        let update = match (self.protocol, response) {
            (Protocol::Delta, Response::Delta(response)) => delta_update(*response),
            (Protocol::Sotw, Response::Sotw(response)) => sotw_update(state, *response),
            (Protocol::Delta, Response::Sotw(_)) | (Protocol::Sotw, Response::Delta(_)) => return Err(ProtocolError::WrongProtocol),
        };
        state.nonce.clone_from(&update.nonce);
        state.pending.push_back(Pending {
            nonce: update.nonce.clone(),
            version: update.version.clone(),
            added: update.added.iter().map(|r| (r.name.clone(), r.version.clone())).collect(),
            removed: update.removed.clone(),
        });
        Ok(update)
    }

    /// The update with this nonce is in force.
    pub fn ack(&mut self, type_url: &str, nonce: &str) {
        self.verdict(type_url, nonce, &[], None);
    }

    /// The update with this nonce was refused: the resources in `refused` keep their former state, the others are in force.
    pub fn nack(&mut self, type_url: &str, nonce: &str, refused: &[String], detail: &str) {
        self.verdict(type_url, nonce, refused, Some(cut(detail, DETAIL_BYTES_MAX).to_owned()));
    }

    fn verdict(&mut self, type_url: &str, nonce: &str, refused: &[String], error: Option<String>) {
        let Some(state) = self.types.get_mut(type_url) else { return };
        let Some(at) = state.pending.iter().position(|p| p.nonce == nonce) else { return };
        let Some(pending) = state.pending.remove(at) else { return };
        let refused: BTreeSet<&str> = refused.iter().map(String::as_str).collect();
        for (name, version) in pending.added {
            if !refused.contains(name.as_str()) && (state.wildcard || state.names.contains(&name)) {
                state.held.insert(name, version);
            }
        }
        for name in pending.removed {
            if !refused.contains(name.as_str()) {
                state.held.remove(&name);
            }
        }
        if error.is_none() {
            state.version = pending.version;
        }
        state.verdicts.push_back(Verdict { nonce: pending.nonce, error });
    }

    fn state(&mut self, type_url: &str) -> Option<&mut TypeState> {
        if !self.types.contains_key(type_url) {
            if self.types.len() >= TYPES_MAX {
                return None;
            }
            self.order.push(type_url.to_owned());
        }
        Some(self.types.entry(type_url.to_owned()).or_default())
    }
}

/// First request: as soon as anything is wanted. Later: a changed subscription.
fn has_subscription(state: &TypeState, protocol: Protocol) -> bool {
    if !state.started {
        return state.wildcard || !state.names.is_empty();
    }
    match protocol {
        Protocol::Delta => !state.subscribe.is_empty() || !state.unsubscribe.is_empty(),
        // A request with the nonce of a response that has no verdict yet would read as its ACK; the verdict will carry the names.
        Protocol::Sotw => state.changed && state.pending.is_empty(),
    }
}

fn delta_request(state: &mut TypeState, type_url: String, node: Option<Node>) -> pb::DeltaDiscoveryRequest {
    let mut request = pb::DeltaDiscoveryRequest { node, type_url, ..Default::default() };
    if !state.started {
        state.started = true;
        state.subscribe.clear();
        state.unsubscribe.clear();
        request.resource_names_subscribe = state.names.iter().cloned().collect();
        if state.wildcard && !state.names.is_empty() {
            request.resource_names_subscribe.push("*".to_owned());
        }
        request.initial_resource_versions = state.held.clone().into_iter().collect::<HashMap<_, _>>();
        return request;
    }
    if !state.subscribe.is_empty() || !state.unsubscribe.is_empty() {
        request.resource_names_subscribe = std::mem::take(&mut state.subscribe).into_iter().collect();
        request.resource_names_unsubscribe = std::mem::take(&mut state.unsubscribe).into_iter().collect();
        return request;
    }
    if let Some(verdict) = state.verdicts.pop_front() {
        request.response_nonce = verdict.nonce;
        request.error_detail = verdict.error.map(status);
    }
    request
}

fn sotw_request(state: &mut TypeState, type_url: String, node: Option<Node>) -> pb::DiscoveryRequest {
    let verdict = if state.started { state.verdicts.pop_front() } else { None };
    state.started = true;
    state.changed = false;
    state.subscribe.clear();
    state.unsubscribe.clear();
    let resource_names = if state.wildcard && !state.names.is_empty() {
        std::iter::once("*".to_owned()).chain(state.names.iter().cloned()).collect()
    } else {
        state.names.iter().cloned().collect()
    };
    let (nonce, error) = verdict.map_or_else(|| (state.nonce.clone(), None), |v| (v.nonce, v.error));
    pb::DiscoveryRequest {
        version_info: state.version.clone(),
        node,
        resource_names,
        type_url,
        response_nonce: nonce,
        error_detail: error.map(status),
        ..Default::default()
    }
}

fn delta_update(response: pb::DeltaDiscoveryResponse) -> Update {
    let mut added = Vec::with_capacity(response.resources.len());
    for resource in response.resources {
        if let Some(body) = resource.resource {
            added.push(Named { name: resource.name, version: resource.version, body });
        }
    }
    Update { type_url: response.type_url, added, removed: response.removed_resources, nonce: response.nonce, version: response.system_version_info }
}

fn sotw_update(state: &TypeState, response: pb::DiscoveryResponse) -> Update {
    let version = response.version_info;
    let mut added = Vec::with_capacity(response.resources.len());
    for body in response.resources {
        let (name, body) = name_of(&response.type_url, body);
        added.push(Named { name, version: version.clone(), body });
    }
    // Only types that are sent as a whole can lose a resource by not naming it; the others may be sent in parts.
    let mut removed = Vec::new();
    if matches!(response.type_url.as_str(), types::CLUSTER | types::LISTENER) {
        let now: BTreeSet<&str> = added.iter().map(|r| r.name.as_str()).collect();
        removed = state.held.keys().filter(|n| !now.contains(n.as_str())).cloned().collect();
    }
    Update { type_url: response.type_url, added, removed, nonce: response.nonce, version }
}

/// Every named xDS resource has its name in field 1; the name table has none.
#[derive(Clone, PartialEq, Message)]
struct FirstField {
    #[prost(string, tag = "1")]
    name: String,
}

fn name_of(type_url: &str, body: Any) -> (String, Any) {
    if body.type_url == types::WRAPPED
        && let Ok(wrapped) = pb::Resource::decode(body.value.as_ref())
        && let Some(inner) = wrapped.resource
    {
        return (wrapped.name, inner);
    }
    if type_url == types::NAME_TABLE {
        return (String::new(), body);
    }
    let name = FirstField::decode(body.value.as_ref()).map(|f| f.name).unwrap_or_default();
    (name, body)
}

fn status(message: String) -> rpc::Status {
    rpc::Status { code: INVALID_ARGUMENT, message, details: Vec::new() }
}

/// `text` cut to at most `bytes_max` bytes at a character boundary.
pub(crate) fn cut(text: &str, bytes_max: usize) -> &str {
    if text.len() <= bytes_max {
        return text;
    }
    let mut end = bytes_max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{CLUSTER, ENDPOINT};

    fn client() -> ClientSession {
        ClientSession::new(Protocol::Delta, Node { id: "me".into(), ..Default::default() })
    }

    fn delta(request: Option<Request>) -> pb::DeltaDiscoveryRequest {
        match request {
            Some(Request::Delta(r)) => *r,
            other => panic!("a delta request expected, got {other:?}"),
        }
    }

    fn response(nonce: &str, added: &[(&str, &str)], removed: &[&str]) -> Response {
        pb::DeltaDiscoveryResponse {
            type_url: CLUSTER.into(),
            nonce: nonce.into(),
            resources: added
                .iter()
                .map(|(n, v)| pb::Resource { name: (*n).into(), version: (*v).into(), resource: Some(Any::default()), ..Default::default() })
                .collect(),
            removed_resources: removed.iter().map(|n| (*n).into()).collect(),
            ..Default::default()
        }
        .into()
    }

    #[test]
    fn the_node_is_on_the_first_message_only() {
        let mut session = client();
        session.subscribe_all(CLUSTER);
        session.subscribe(ENDPOINT, ["a".to_owned()]);
        session.connected();
        assert!(delta(session.next_request()).node.is_some());
        assert!(delta(session.next_request()).node.is_none());
        assert_eq!(session.next_request(), None);
    }

    #[test]
    fn nothing_is_said_before_the_stream_is_open() {
        let mut session = client();
        session.subscribe_all(CLUSTER);
        assert_eq!(session.next_request(), None);
    }

    #[test]
    fn new_names_are_asked_for_before_the_update_that_taught_them_is_acknowledged() {
        let mut session = client();
        session.subscribe_all(CLUSTER);
        session.connected();
        session.next_request();
        let update = session.receive(response("1", &[("a", "v1")], &[])).unwrap();
        session.ack(CLUSTER, &update.nonce);
        session.set_names(ENDPOINT, &BTreeSet::from(["a".to_owned()]));
        assert_eq!(delta(session.next_request()).type_url, ENDPOINT);
        assert_eq!(delta(session.next_request()).response_nonce, "1");
    }

    #[test]
    fn a_reconnect_quotes_accepted_versions_only() {
        let mut session = client();
        session.subscribe_all(CLUSTER);
        session.connected();
        session.next_request();
        session.receive(response("1", &[("a", "v1"), ("b", "v1")], &[])).unwrap();
        session.ack(CLUSTER, "1");
        session.receive(response("2", &[("a", "v2"), ("c", "v2")], &["b"])).unwrap();
        session.nack(CLUSTER, "2", &["a".to_owned()], "bad");
        session.disconnected();
        session.connected();
        let first = delta(session.next_request());
        assert_eq!(first.initial_resource_versions, HashMap::from([("a".to_owned(), "v1".to_owned()), ("c".to_owned(), "v2".to_owned())]));
        assert!(first.node.is_some() && first.response_nonce.is_empty());
    }

    #[test]
    fn a_refusal_carries_its_reason() {
        let mut session = client();
        session.subscribe_all(CLUSTER);
        session.connected();
        session.next_request();
        session.receive(response("1", &[("a", "v1")], &[])).unwrap();
        session.nack(CLUSTER, "1", &["a".to_owned()], "no such type");
        let request = delta(session.next_request());
        assert_eq!((request.response_nonce.as_str(), request.error_detail.unwrap().message.as_str()), ("1", "no such type"));
    }

    #[test]
    fn a_verdict_of_a_broken_stream_is_not_sent_on_the_next() {
        let mut session = client();
        session.subscribe_all(CLUSTER);
        session.connected();
        session.next_request();
        session.receive(response("1", &[], &[])).unwrap();
        session.connected();
        session.ack(CLUSTER, "1");
        assert!(delta(session.next_request()).response_nonce.is_empty());
        assert_eq!(session.next_request(), None);
    }

    #[test]
    fn a_response_nobody_asked_for_is_an_error() {
        assert_eq!(client().receive(response("1", &[], &[])), Err(ProtocolError::NotSubscribed(CLUSTER.into())));
    }

    #[test]
    fn state_of_the_world_reads_names_and_finds_what_is_gone() {
        let mut session = ClientSession::new(Protocol::Sotw, Node::default());
        session.subscribe_all(CLUSTER);
        session.connected();
        session.next_request();
        let whole = |version: &str, names: &[&str]| -> Response {
            let resources = names
                .iter()
                .map(|n| Any { type_url: CLUSTER.into(), value: FirstField { name: (*n).into() }.encode_to_vec().into() })
                .collect();
            pb::DiscoveryResponse { version_info: version.into(), type_url: CLUSTER.into(), nonce: version.into(), resources, ..Default::default() }.into()
        };
        let update = session.receive(whole("1", &["a", "b"])).unwrap();
        assert_eq!(update.added.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        session.ack(CLUSTER, "1");
        match session.next_request() {
            Some(Request::Sotw(r)) => assert_eq!((r.version_info.as_str(), r.response_nonce.as_str()), ("1", "1")),
            other => panic!("{other:?}"),
        }
        assert_eq!(session.receive(whole("2", &["b"])).unwrap().removed, ["a"]);
    }

    #[test]
    fn long_refusals_are_cut_at_a_character() {
        assert_eq!(cut("aé", 2), "a");
    }
}
