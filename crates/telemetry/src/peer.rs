//! Peer metadata: what two proxies tell each other about their workloads.
//!
//! - Reads: `x-envoy-peer-metadata` (base64 of a protobuf `Struct`), endpoint metadata `istio` / `workload`, node metadata.
//! - Rule: keys and label names are Istio's, so that either side may be Istio's proxy.
//! - Rule: foreign bytes give a peer or nothing, never a panic; more than [`BYTES_MAX`] is nothing.
//! - Not here: the headers (`proxy/src/filters/peer_metadata.rs`).

use lateen_base::labels::{CANONICAL_NAME, CANONICAL_REVISION};
use lateen_envoy_api::wkt;
use prost::Message;
use std::collections::BTreeMap;

/// Largest header value looked at.
pub const BYTES_MAX: usize = 16 * 1024;

/// One workload. An empty field is unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PeerMetadata {
    /// The pod. Key `NAME`.
    pub name: String,
    /// Its namespace. Key `NAMESPACE`.
    pub namespace: String,
    /// The Deployment or the like. Key `WORKLOAD_NAME`.
    pub workload: String,
    /// URL of the owner. Key `OWNER`.
    pub owner: String,
    /// The Kubernetes cluster. Key `CLUSTER_ID`.
    pub cluster: String,
    /// Label `service.istio.io/canonical-name`.
    pub canonical_service: String,
    /// Label `service.istio.io/canonical-revision`.
    pub canonical_revision: String,
    /// Label `app`.
    pub app: String,
    /// Label `version`.
    pub version: String,
}

impl PeerMetadata {
    /// Reads a node's metadata, as the bootstrap holds it. Labels fall back as Istio's do: the canonical service is the
    /// label, else `app`, else the workload; the canonical revision is the label, else `version`, else `latest`.
    #[must_use]
    pub fn from_node(metadata: &wkt::Struct) -> Self {
        let mut peer = Self::from_struct(metadata);
        let first = |values: [&str; 3]| values.into_iter().find(|v| !v.is_empty()).unwrap_or_default().to_owned();
        peer.canonical_service = first([&peer.canonical_service, &peer.app, &peer.workload]);
        peer.canonical_revision = first([&peer.canonical_revision, &peer.version, "latest"]);
        peer
    }

    /// Reads `workload;namespace;canonical service;canonical revision;cluster`, the endpoint metadata Istio's control plane sends.
    #[must_use]
    pub fn from_endpoint(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(str::to_owned);
        let peer = Self {
            workload: parts.next().filter(|p| !p.is_empty())?,
            namespace: parts.next().unwrap_or_default(),
            canonical_service: parts.next().unwrap_or_default(),
            canonical_revision: parts.next().unwrap_or_default(),
            cluster: parts.next().unwrap_or_default(),
            ..Self::default()
        };
        Some(Self { app: peer.canonical_service.clone(), version: peer.canonical_revision.clone(), ..peer })
    }

    /// Reads a header's value.
    #[must_use]
    pub fn decode(header: &[u8]) -> Option<Self> {
        if header.is_empty() || header.len() > BYTES_MAX {
            return None;
        }
        let bytes = base64_decode(header)?;
        Some(Self::from_struct(&wkt::Struct::decode(bytes.as_slice()).ok()?))
    }

    /// The header's value.
    #[must_use]
    pub fn encode(&self) -> String {
        base64_encode(&self.encode_struct())
    }

    /// The message's bytes with its fields sorted, so that equal metadata are equal bytes.
    fn encode_struct(&self) -> Vec<u8> {
        let text = |v: &str| wkt::Value { kind: Some(wkt::value::Kind::StringValue(v.to_owned())) };
        let mut fields: BTreeMap<&str, wkt::Value> = BTreeMap::new();
        for (key, value) in self.fields().into_iter().filter(|(_, v)| !v.is_empty()) {
            fields.insert(key, text(value));
        }
        let labels: BTreeMap<&str, wkt::Value> = self.labels().into_iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| (k, text(v))).collect();
        let mut bytes = Vec::new();
        if !labels.is_empty() {
            // A map field is a repeated entry {1: key, 2: value}; written by hand only because a hash map has no order.
            fields.insert("LABELS", wkt::Value { kind: None });
        }
        for (key, value) in &fields {
            let body = if *key == "LABELS" {
                let mut inner = Vec::new();
                labels.iter().for_each(|(k, v)| map_entry(&mut inner, k, &v.encode_to_vec()));
                let mut value = Vec::new();
                prost::encoding::encode_key(STRUCT_VALUE_FIELD, prost::encoding::WireType::LengthDelimited, &mut value);
                prost::encoding::encode_varint(inner.len() as u64, &mut value);
                value.extend_from_slice(&inner);
                value
            } else {
                value.encode_to_vec()
            };
            map_entry(&mut bytes, key, &body);
        }
        bytes
    }

    fn fields(&self) -> [(&'static str, &str); 5] {
        [
            ("NAME", &self.name),
            ("NAMESPACE", &self.namespace),
            ("WORKLOAD_NAME", &self.workload),
            ("OWNER", &self.owner),
            ("CLUSTER_ID", &self.cluster),
        ]
    }

    fn labels(&self) -> [(&'static str, &str); 4] {
        [(CANONICAL_NAME, &self.canonical_service), (CANONICAL_REVISION, &self.canonical_revision), ("app", &self.app), ("version", &self.version)]
    }

    fn from_struct(metadata: &wkt::Struct) -> Self {
        use wkt::value::Kind;
        let text = |fields: &std::collections::HashMap<String, wkt::Value>, key: &str| match fields.get(key).and_then(|v| v.kind.as_ref()) {
            Some(Kind::StringValue(text)) => text.clone(),
            _ => String::new(),
        };
        let none = std::collections::HashMap::new();
        let labels = match metadata.fields.get("LABELS").and_then(|v| v.kind.as_ref()) {
            Some(Kind::StructValue(labels)) => &labels.fields,
            _ => &none,
        };
        let top = |key| text(&metadata.fields, key);
        Self {
            name: top("NAME"),
            namespace: top("NAMESPACE"),
            workload: top("WORKLOAD_NAME"),
            owner: top("OWNER"),
            cluster: top("CLUSTER_ID"),
            canonical_service: text(labels, CANONICAL_NAME),
            canonical_revision: text(labels, CANONICAL_REVISION),
            app: text(labels, "app"),
            version: text(labels, "version"),
        }
    }
}

/// `google.protobuf.Value.struct_value`.
const STRUCT_VALUE_FIELD: u32 = 5;

fn map_entry(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    use prost::encoding::{WireType::LengthDelimited, encode_key, encode_varint};
    let mut entry = Vec::with_capacity(key.len() + value.len() + 8);
    for (tag, bytes) in [(1, key.as_bytes()), (2, value)] {
        encode_key(tag, LengthDelimited, &mut entry);
        encode_varint(bytes.len() as u64, &mut entry);
        entry.extend_from_slice(bytes);
    }
    encode_key(1, LengthDelimited, out);
    encode_varint(entry.len() as u64, out);
    out.extend_from_slice(&entry);
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base64 with padding (RFC 4648 §4).
fn base64_encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().enumerate().fold(0u32, |sum, (i, byte)| sum | u32::from(*byte) << (16 - 8 * i));
        for i in 0..4 {
            let index = usize::try_from(word >> (18 - 6 * i) & 63).unwrap_or(0);
            out.push(if i <= chunk.len() { char::from(ALPHABET[index]) } else { '=' });
        }
    }
    out
}

fn base64_decode(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut word, mut bits) = (0u32, 0);
    for byte in text {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        word = word << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push(u8::try_from(word >> bits & 0xff).unwrap_or(0));
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> PeerMetadata {
        PeerMetadata {
            name: "frontend-1".into(),
            namespace: "default".into(),
            workload: "frontend".into(),
            owner: "kubernetes://apis/apps/v1/namespaces/default/deployments/frontend".into(),
            cluster: "Kubernetes".into(),
            canonical_service: "frontend".into(),
            canonical_revision: "latest".into(),
            app: "frontend".into(),
            version: String::new(),
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        assert_eq!(PeerMetadata::decode(peer().encode().as_bytes()), Some(peer()));
    }

    #[test]
    fn the_bytes_are_an_ordinary_struct() {
        let message = wkt::Struct::decode(base64_decode(peer().encode().as_bytes()).unwrap().as_slice()).unwrap();
        assert!(message.fields.contains_key("WORKLOAD_NAME") && message.fields.contains_key("LABELS"));
    }

    #[test]
    fn garbage_gives_nothing() {
        for bad in [&b""[..], b"!!!", b"AAAA", &[b'A'; BYTES_MAX + 1]] {
            assert!(PeerMetadata::decode(bad).is_none_or(|p| p == PeerMetadata::default()));
        }
    }

    #[test]
    fn base64_agrees_with_the_rfc() {
        for (plain, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64_encode(plain.as_bytes()), text);
            assert_eq!(base64_decode(text.as_bytes()).unwrap(), plain.as_bytes());
        }
    }

    #[test]
    fn endpoint_metadata_names_the_workload() {
        let peer = PeerMetadata::from_endpoint("reviews-v1;default;reviews;v1;Kubernetes").unwrap();
        assert_eq!((peer.workload.as_str(), peer.canonical_revision.as_str(), peer.cluster.as_str()), ("reviews-v1", "v1", "Kubernetes"));
    }

    #[test]
    fn a_node_without_canonical_labels_falls_back() {
        let text = |v: &str| wkt::Value { kind: Some(wkt::value::Kind::StringValue(v.into())) };
        let node = wkt::Struct { fields: [("WORKLOAD_NAME".to_owned(), text("db"))].into() };
        let peer = PeerMetadata::from_node(&node);
        assert_eq!((peer.canonical_service.as_str(), peer.canonical_revision.as_str()), ("db", "latest"));
    }
}
