//! Names of a shard: each peer, service and text is stored once and named by a number.
//!
//! - Rule: a number means something only to the shard that gave it.
//! - Limits: [`super::PEERS_MAX`] of each; later ones are `overflow`.

use super::PEERS_MAX;
use crate::hash::FastHash;
use crate::peer::PeerMetadata;
use std::collections::HashMap;

macro_rules! ids {
    ($($name:ident $doc:literal,)*) => {$(
        #[doc = $doc]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub struct $name(u32);
        impl $name {
            /// Not known.
            pub const UNKNOWN: Self = Self(0);
            /// One too many.
            pub const OVERFLOW: Self = Self(1);
        }
        impl Default for $name {
            fn default() -> Self {
                Self::UNKNOWN
            }
        }
    )*};
}

ids! {
    Peer "A workload, by number.",
    Service "A service, by number.",
    Text "A text, by number.",
}

/// What stands for something that is not known, in every label.
const UNKNOWN: &str = "unknown";
/// What stands for one too many.
const OVERFLOW: &str = "overflow";

/// One service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServiceNames {
    pub(super) host: String,
    pub(super) name: String,
    pub(super) namespace: String,
}

#[derive(Debug)]
pub(super) struct Interner {
    peers: Vec<PeerMetadata>,
    /// By header.
    peer_ids: HashMap<Box<[u8]>, Peer, FastHash>,
    endpoint_ids: HashMap<Box<str>, Peer, FastHash>,
    services: Vec<ServiceNames>,
    service_ids: HashMap<Box<str>, Vec<Service>, FastHash>,
    texts: Vec<Box<str>>,
    text_ids: HashMap<Box<str>, Text, FastHash>,
}

impl Default for Interner {
    fn default() -> Self {
        let peer = |word: &str| PeerMetadata {
            name: word.into(),
            namespace: word.into(),
            workload: word.into(),
            owner: word.into(),
            cluster: word.into(),
            canonical_service: word.into(),
            canonical_revision: word.into(),
            app: word.into(),
            version: word.into(),
        };
        let service = |word: &str| ServiceNames { host: word.into(), name: word.into(), namespace: word.into() };
        Self {
            peers: vec![peer(UNKNOWN), peer(OVERFLOW)],
            peer_ids: HashMap::default(),
            endpoint_ids: HashMap::default(),
            services: vec![service(UNKNOWN), service(OVERFLOW)],
            service_ids: HashMap::default(),
            texts: vec![UNKNOWN.into(), OVERFLOW.into()],
            text_ids: HashMap::default(),
        }
    }
}

impl Interner {
    pub(super) fn peer_of_header(&mut self, header: &[u8]) -> Peer {
        match self.peer_ids.get(header) {
            Some(peer) => *peer,
            None if header.is_empty() => Peer::UNKNOWN,
            None => self.add_peer(header, PeerMetadata::decode(header)),
        }
    }

    pub(super) fn peer_of_endpoint(&mut self, text: &str) -> Peer {
        match self.endpoint_ids.get(text) {
            Some(peer) => *peer,
            None if text.is_empty() => Peer::UNKNOWN,
            None if self.endpoint_ids.len() >= PEERS_MAX => Peer::OVERFLOW,
            None => {
                let peer = PeerMetadata::from_endpoint(text).map_or(Peer::UNKNOWN, |metadata| self.store(metadata));
                self.endpoint_ids.insert(text.into(), peer);
                peer
            }
        }
    }

    pub(super) fn peer(&mut self, metadata: &PeerMetadata) -> Peer {
        let encoded = metadata.encode();
        match self.peer_ids.get(encoded.as_bytes()) {
            Some(peer) => *peer,
            None => self.add_peer(encoded.as_bytes(), Some(metadata.clone())),
        }
    }

    #[cold]
    fn add_peer(&mut self, key: &[u8], metadata: Option<PeerMetadata>) -> Peer {
        if self.peer_ids.len() >= PEERS_MAX {
            return Peer::OVERFLOW;
        }
        let peer = metadata.map_or(Peer::UNKNOWN, |metadata| self.store(metadata));
        self.peer_ids.insert(key.into(), peer);
        peer
    }

    fn store(&mut self, metadata: PeerMetadata) -> Peer {
        let id = u32::try_from(self.peers.len()).unwrap_or(1);
        self.peers.push(known(metadata));
        Peer(id)
    }

    pub(super) fn service(&mut self, host: &str, name: &str, namespace: &str) -> Service {
        let same = |s: &ServiceNames| s.host == or_unknown(host) && s.name == or_unknown(name) && s.namespace == or_unknown(namespace);
        let candidates = self.service_ids.get(host).map_or(&[][..], Vec::as_slice);
        if let Some(found) = candidates.iter().find(|s| self.services.get(s.0 as usize).is_some_and(same)) {
            return *found;
        }
        if self.services.len() >= PEERS_MAX {
            return Service::OVERFLOW;
        }
        let service = Service(u32::try_from(self.services.len()).unwrap_or(1));
        let own = |text: &str| or_unknown(text).to_owned();
        self.services.push(ServiceNames { host: own(host), name: own(name), namespace: own(namespace) });
        self.service_ids.entry(host.into()).or_default().push(service);
        service
    }

    pub(super) fn text(&mut self, text: &str) -> Text {
        if text.is_empty() {
            return Text::UNKNOWN;
        }
        if let Some(found) = self.text_ids.get(text) {
            return *found;
        }
        if self.texts.len() >= PEERS_MAX {
            return Text::OVERFLOW;
        }
        let id = Text(u32::try_from(self.texts.len()).unwrap_or(1));
        self.texts.push(text.into());
        self.text_ids.insert(text.into(), id);
        id
    }

    pub(super) fn peer_named(&self, peer: Peer) -> Option<&PeerMetadata> {
        self.peers.get(peer.0 as usize)
    }

    pub(super) fn service_named(&self, service: Service) -> Option<&ServiceNames> {
        self.services.get(service.0 as usize)
    }

    pub(super) fn text_named(&self, text: Text) -> &str {
        self.texts.get(text.0 as usize).map_or(UNKNOWN, |t| t)
    }
}

fn or_unknown(text: &str) -> &str {
    if text.is_empty() { UNKNOWN } else { text }
}

/// Empty fields become `unknown`, as labels want them.
fn known(mut peer: PeerMetadata) -> PeerMetadata {
    for field in [
        &mut peer.name,
        &mut peer.namespace,
        &mut peer.workload,
        &mut peer.owner,
        &mut peer.cluster,
        &mut peer.canonical_service,
        &mut peer.canonical_revision,
        &mut peer.app,
        &mut peer.version,
    ] {
        if field.is_empty() {
            UNKNOWN.clone_into(field);
        }
    }
    peer
}
