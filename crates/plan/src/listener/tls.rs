//! TLS settings, downstream and upstream, as the transport needs them.
//!
//! - Reads: `extensions.transport_sockets.tls.v3.{DownstreamTlsContext, UpstreamTlsContext}` (Envoy).
//! - Rule: certificates are named or given as bytes; nobody here parses them, so this stays pure.
//! - Not here: handshakes and certificate parsing (`proxy/src/transport`).

use crate::names::Name;
use crate::string_match::StringMatch;
use std::sync::Arc;

/// TLS towards a client.
#[derive(Debug, PartialEq)]
pub struct DownstreamTls {
    /// What both directions share.
    pub common: CommonTls,
    /// Refuse clients without a certificate.
    pub require_client_certificate: bool,
}

/// TLS towards an endpoint.
#[derive(Debug, PartialEq)]
pub struct UpstreamTls {
    /// What both directions share.
    pub common: CommonTls,
    /// Server name sent. Empty: none, unless `auto_host_sni`.
    pub sni: Name,
    /// Send the request's host as server name.
    pub auto_host_sni: bool,
    /// Demand that the certificate names the server name sent.
    pub auto_sni_san_validation: bool,
}

/// What both directions share. Source: `CommonTlsContext`.
#[derive(Debug, PartialEq)]
pub struct CommonTls {
    /// Oldest version allowed.
    pub min_version: TlsVersion,
    /// Newest version allowed.
    pub max_version: TlsVersion,
    /// Protocols offered or accepted, in order of preference.
    pub alpn: Vec<Name>,
    /// Own certificate and key. `None`: none is presented.
    pub certificate: Option<CertificateSource>,
    /// How the other side's certificate is checked. `None`: it is not.
    pub validation: Option<Validation>,
}

/// A TLS version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// Where a certificate and its key come from.
#[derive(Clone, Debug, PartialEq)]
pub enum CertificateSource {
    /// From the secret discovery service.
    Sds(SdsRef),
    /// Given in the configuration.
    Inline(Arc<TlsCertificate>),
}

/// How a peer's certificate is checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Validation {
    /// The trust anchors.
    pub trusted_ca: CaSource,
    /// Alternative names, of which the certificate must carry one. Empty: any.
    pub san: Vec<SanMatch>,
    /// Checked but not enforced: `trust_chain_verification: ACCEPT_UNTRUSTED`.
    pub accept_untrusted: bool,
}

/// Where trust anchors come from.
#[derive(Clone, Debug, PartialEq)]
pub enum CaSource {
    /// From the secret discovery service.
    Sds(SdsRef),
    /// Given in the configuration.
    Inline(DataSource),
    /// None configured: the chain is not checked, only the names are.
    Unchecked,
}

/// A secret fetched by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SdsRef {
    /// Its name.
    pub name: Name,
    /// Who is asked.
    pub source: SdsSource,
}

/// Who is asked for a secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SdsSource {
    /// The aggregated stream.
    Ads,
    /// A gRPC service reached through a cluster.
    Cluster(Name),
    /// A static secret of the bootstrap.
    Static,
}

/// One acceptable alternative name.
#[derive(Clone, Debug, PartialEq)]
pub struct SanMatch {
    /// Which kind of name is compared.
    pub kind: SanKind,
    /// What it must be.
    pub matcher: StringMatch,
}

/// Kinds of alternative names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SanKind {
    /// `URI:`, as SPIFFE uses.
    Uri,
    /// `DNS:`.
    Dns,
    /// `email:`.
    Email,
    /// `IP:`.
    Ip,
    /// Any of them (`match_subject_alt_names` of old configurations).
    Any,
}

/// Bytes given in place or by file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataSource {
    /// The bytes.
    Bytes(Arc<[u8]>),
    /// A file's path, read by the transport.
    File(Name),
}

/// A certificate chain and its key, PEM or DER, unparsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsCertificate {
    /// Leaf first.
    pub chain: DataSource,
    /// The key.
    pub key: DataSource,
}

/// A secret as it arrived. Source: `Secret`.
#[derive(Clone, Debug, PartialEq)]
pub struct Secret {
    /// Its name.
    pub name: Name,
    /// What it holds.
    pub body: SecretBody,
}

/// What a secret holds.
#[derive(Clone, Debug, PartialEq)]
pub enum SecretBody {
    /// A certificate and its key.
    Certificate(TlsCertificate),
    /// Trust anchors, and names if the secret restricts them.
    Validation {
        /// PEM bundle.
        trusted_ca: DataSource,
        /// Acceptable names; empty: any.
        san: Vec<SanMatch>,
    },
}
