//! SDS: hands the workload's certificate and the mesh's roots to the proxy over a unix socket.
//!
//! - Reads: [`Identity`] as it is renewed.
//! - Twin: `proxy/src/transport/sds.rs`, the reader.
//! - Rule: a request waits for the first certificate; a new one is pushed at once.
//! - Limits: only `default` and `ROOTCA` are served.

use crate::identity::Identity;
use lateen_base::names;
use lateen_envoy_api::envoy::config::core::v3::{DataSource, Node, data_source::Specifier};
use lateen_envoy_api::envoy::extensions::transport_sockets::tls::v3 as tls;
use lateen_envoy_api::pack;
use lateen_xds::server::{Application, Connection, Observer, Peer, Push};
use lateen_xds::server_session::{Received, TypeStatus};
use lateen_xds::{Protocol, Resource, Response, Sets, types};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::UNIX_EPOCH;
use tokio::sync::watch;
use tonic::Status;

/// Serves the two secrets.
pub struct Secrets {
    pushes: watch::Receiver<Option<Arc<Push>>>,
}

impl Secrets {
    /// Serves what comes through `identities`; the translating task ends with its sender.
    #[must_use]
    pub fn new(mut identities: watch::Receiver<Option<Arc<Identity>>>) -> Self {
        let (sender, pushes) = watch::channel(None);
        tokio::spawn(async move {
            loop {
                let identity = identities.borrow_and_update().clone();
                if let Some(identity) = identity {
                    sender.send_replace(Some(Arc::new(push(&identity))));
                }
                if identities.changed().await.is_err() {
                    return;
                }
            }
        });
        Self { pushes }
    }
}

impl Application for Secrets {
    fn connect(&self, _: &Peer, _: &Node, _: Protocol) -> Result<Connection, Status> {
        Ok(Connection { pushes: self.pushes.clone(), observer: Box::new(Log) })
    }
}

struct Log;

impl Observer for Log {
    fn received(&mut self, _: &str, received: &Received) {
        if let Received::Nacked(error) = received {
            tracing::error!(error, "the proxy refused a secret");
        }
    }
    fn sent(&mut self, response: &Response) {
        tracing::debug!(secrets = response.resources_len(), "secrets pushed to the proxy");
    }
    fn status(&mut self, _: BTreeMap<String, TypeStatus>) {}
}

fn push(identity: &Identity) -> Push {
    let certificate = tls::TlsCertificate {
        certificate_chain: Some(inline(&identity.chain_pem)),
        private_key: Some(inline(&identity.key_pem)),
        ..Default::default()
    };
    let trust = tls::CertificateValidationContext { trusted_ca: Some(inline(&identity.roots_pem)), ..Default::default() };
    let secrets = BTreeMap::from([
        secret(names::SECRET_DEFAULT, tls::secret::Type::TlsCertificate(certificate)),
        secret(names::SECRET_ROOT, tls::secret::Type::ValidationContext(trust)),
    ]);
    // Certificates are told apart by their expiry; no two are issued within a nanosecond.
    let version = identity.not_after.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string();
    Push { version, sets: Sets::from([(types::SECRET.to_owned(), secrets)]) }
}

fn secret(name: &str, body: tls::secret::Type) -> (String, Resource) {
    let body = pack(&tls::Secret { name: name.to_owned(), r#type: Some(body) });
    let mut hasher = DefaultHasher::new();
    body.value.hash(&mut hasher);
    (name.to_owned(), Resource { version: hasher.finish(), body })
}

fn inline(text: &str) -> DataSource {
    DataSource { specifier: Some(Specifier::InlineBytes(text.as_bytes().to_vec())), ..Default::default() }
}
