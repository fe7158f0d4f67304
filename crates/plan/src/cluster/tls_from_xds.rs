//! TLS settings and secrets off the wire.
//!
//! - Reads: `extensions.transport_sockets.tls.v3.{UpstreamTlsContext, DownstreamTlsContext, Secret}`.
//! - Limits: cipher suites and curves are the library's; a configuration that names them is accepted, because naming is
//!   how Istio writes its defaults, and the library's are at least as strict.
//! - Rule: what would weaken or replace verification (custom validators, pinned hashes, revocation lists) is refused.

use crate::listener::tls::{
    CaSource, CertificateSource, CommonTls, DataSource, DownstreamTls, SanKind, SanMatch, SdsRef, SdsSource, Secret, SecretBody, TlsCertificate,
    TlsVersion, UpstreamTls, Validation,
};
use crate::rejected::{Invalid, Within};
use crate::string_match::StringMatch;
use lateen_envoy_api::envoy::config::core::v3 as xcore;
use lateen_envoy_api::envoy::extensions::transport_sockets::tls::v3 as xtls;
use std::sync::Arc;

/// Reads TLS towards endpoints.
///
/// # Errors
/// See the module's rule.
pub fn upstream_tls(given: &xtls::UpstreamTlsContext) -> Result<UpstreamTls, Invalid> {
    Ok(UpstreamTls {
        common: common(given.common_tls_context.as_ref(), TlsVersion::Tls12)?,
        sni: given.sni.as_str().into(),
        auto_host_sni: given.auto_host_sni,
        auto_sni_san_validation: given.auto_sni_san_validation,
    })
}

/// Reads TLS towards clients.
///
/// # Errors
/// See the module's rule; OCSP stapling.
pub fn downstream_tls(given: &xtls::DownstreamTlsContext) -> Result<DownstreamTls, Invalid> {
    if given.ocsp_staple_policy != xtls::downstream_tls_context::OcspStaplePolicy::LenientStapling as i32 {
        return Err(Invalid::unsupported("ocsp_staple_policy", "strict OCSP stapling"));
    }
    if given.require_sni.as_ref().is_some_and(|v| v.value) {
        return Err(Invalid::unsupported("require_sni", "refusing clients without a server name"));
    }
    Ok(DownstreamTls {
        common: common(given.common_tls_context.as_ref(), TlsVersion::Tls12)?,
        require_client_certificate: given.require_client_certificate.as_ref().is_some_and(|v| v.value),
    })
}

fn common(given: Option<&xtls::CommonTlsContext>, oldest: TlsVersion) -> Result<CommonTls, Invalid> {
    let empty = xtls::CommonTlsContext::default();
    let given = given.unwrap_or(&empty);
    let refuse = |present: bool, field: &str| if present { Err(Invalid::unsupported(field, "this source of certificates")) } else { Ok(()) };
    refuse(given.tls_certificate_provider_instance.is_some(), "tls_certificate_provider_instance")?;
    refuse(given.custom_tls_certificate_selector.is_some(), "custom_tls_certificate_selector")?;
    refuse(given.custom_handshaker.is_some(), "custom_handshaker")?;
    let params = given.tls_params.as_ref();
    let (min_version, max_version) = (version(params.map_or(0, |p| p.tls_minimum_protocol_version), oldest)?, {
        version(params.map_or(0, |p| p.tls_maximum_protocol_version), TlsVersion::Tls13)?
    });
    if min_version > max_version {
        return Err(Invalid::new("tls_params", "the minimum version is above the maximum"));
    }
    Ok(CommonTls {
        min_version,
        max_version,
        alpn: given.alpn_protocols.iter().map(|p| p.as_str().into()).collect(),
        certificate: certificate(given).within("common_tls_context")?,
        validation: validation(given).within("common_tls_context")?,
    })
}

/// Versions below 1.2 are not offered by the library: a minimum below it means 1.2, a maximum below it cannot be met.
fn version(given: i32, default: TlsVersion) -> Result<TlsVersion, Invalid> {
    use xtls::tls_parameters::TlsProtocol as P;
    match P::try_from(given) {
        Ok(P::TlsAuto) => Ok(default),
        Ok(P::TlSv10 | P::TlSv11 | P::TlSv12) => Ok(TlsVersion::Tls12),
        Ok(P::TlSv13) => Ok(TlsVersion::Tls13),
        Err(_) => Err(Invalid::new("tls_params", format!("version {given} is not known"))),
    }
}

fn certificate(given: &xtls::CommonTlsContext) -> Result<Option<CertificateSource>, Invalid> {
    let (inline, sds) = (given.tls_certificates.as_slice(), given.tls_certificate_sds_secret_configs.as_slice());
    match (inline, sds) {
        ([], []) => Ok(None),
        ([one], []) => Ok(Some(CertificateSource::Inline(Arc::new(tls_certificate(one).within("tls_certificates[0]")?)))),
        ([], [one]) => Ok(Some(CertificateSource::Sds(sds_ref(one).within("tls_certificate_sds_secret_configs[0]")?))),
        _ => Err(Invalid::unsupported("tls_certificates", "more than one certificate")),
    }
}

fn tls_certificate(given: &xtls::TlsCertificate) -> Result<TlsCertificate, Invalid> {
    if given.pkcs12.is_some() || given.password.is_some() || given.private_key_provider.is_some() {
        return Err(Invalid::unsupported("private_key", "an encrypted key or a key provider"));
    }
    Ok(TlsCertificate {
        chain: data_source(given.certificate_chain.as_ref()).within("certificate_chain")?,
        key: data_source(given.private_key.as_ref()).within("private_key")?,
    })
}

/// Reads bytes given in place or by file.
pub(crate) fn data_source(given: Option<&xcore::DataSource>) -> Result<DataSource, Invalid> {
    use xcore::data_source::Specifier as S;
    match given.and_then(|d| d.specifier.as_ref()) {
        Some(S::InlineBytes(bytes)) => Ok(DataSource::Bytes(bytes.as_slice().into())),
        Some(S::InlineString(text)) => Ok(DataSource::Bytes(text.as_bytes().into())),
        Some(S::Filename(path)) => Ok(DataSource::File(path.as_str().into())),
        Some(S::EnvironmentVariable(name)) => Err(Invalid::unsupported("environment_variable", name)),
        None => Err(Invalid::new("specifier", "is required")),
    }
}

fn sds_ref(given: &xtls::SdsSecretConfig) -> Result<SdsRef, Invalid> {
    use xcore::config_source::ConfigSourceSpecifier as C;
    use xcore::grpc_service::TargetSpecifier as T;
    let specifier = given.sds_config.as_ref().map(|c| c.config_source_specifier.as_ref());
    let source = match specifier {
        None => SdsSource::Static,
        Some(Some(C::Ads(_) | C::Self_(_))) => SdsSource::Ads,
        Some(Some(C::ApiConfigSource(api))) => match api.grpc_services.first().and_then(|g| g.target_specifier.as_ref()) {
            Some(T::EnvoyGrpc(envoy)) => SdsSource::Cluster(envoy.cluster_name.as_str().into()),
            Some(T::GoogleGrpc(_)) | None => return Err(Invalid::unsupported("sds_config", "a source without envoy_grpc")),
        },
        Some(Some(C::Path(_) | C::PathConfigSource(_)) | None) => return Err(Invalid::unsupported("sds_config", "secrets from a file")),
    };
    Ok(SdsRef { name: given.name.as_str().into(), source })
}

fn validation(given: &xtls::CommonTlsContext) -> Result<Option<Validation>, Invalid> {
    use xtls::common_tls_context::ValidationContextType as V;
    match &given.validation_context_type {
        None => Ok(None),
        Some(V::ValidationContext(context)) => inline_validation(context).within("validation_context").map(Some),
        Some(V::ValidationContextSdsSecretConfig(sds)) => {
            let trusted_ca = CaSource::Sds(sds_ref(sds).within("validation_context_sds_secret_config")?);
            Ok(Some(Validation { trusted_ca, san: Vec::new(), accept_untrusted: false }))
        }
        Some(V::CombinedValidationContext(combined)) => {
            let default = combined.default_validation_context.as_ref();
            let base = default.map(inline_validation).transpose().within("default_validation_context")?;
            let mut read = base.unwrap_or(Validation { trusted_ca: CaSource::Unchecked, san: Vec::new(), accept_untrusted: false });
            if let Some(sds) = &combined.validation_context_sds_secret_config {
                read.trusted_ca = CaSource::Sds(sds_ref(sds).within("validation_context_sds_secret_config")?);
            }
            Ok(Some(read))
        }
        Some(V::ValidationContextCertificateProvider(_) | V::ValidationContextCertificateProviderInstance(_)) => {
            Err(Invalid::unsupported("validation_context_certificate_provider", "a certificate provider"))
        }
    }
}

fn inline_validation(given: &xtls::CertificateValidationContext) -> Result<Validation, Invalid> {
    if let Some(custom) = &given.custom_validator_config {
        return Err(Invalid::unsupported("custom_validator_config", &custom.name));
    }
    if !given.verify_certificate_spki.is_empty() || !given.verify_certificate_hash.is_empty() {
        return Err(Invalid::unsupported("verify_certificate_hash", "pinning"));
    }
    if given.crl.is_some() {
        return Err(Invalid::unsupported("crl", "a revocation list"));
    }
    if given.allow_expired_certificate {
        return Err(Invalid::unsupported("allow_expired_certificate", "accepting expired certificates"));
    }
    let trusted_ca = match (&given.trusted_ca, &given.system_root_certs) {
        (Some(ca), _) => CaSource::Inline(data_source(Some(ca)).within("trusted_ca")?),
        (None, Some(_)) => CaSource::Inline(DataSource::File(SYSTEM_ROOTS.into())),
        (None, None) => CaSource::Unchecked,
    };
    let untrusted = xtls::certificate_validation_context::TrustChainVerification::AcceptUntrusted as i32;
    Ok(Validation { trusted_ca, san: sans(given)?, accept_untrusted: given.trust_chain_verification == untrusted })
}

/// Where Linux distributions of Debian's family keep the system's trust anchors; Istio writes the same path.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

fn sans(given: &xtls::CertificateValidationContext) -> Result<Vec<SanMatch>, Invalid> {
    use xtls::subject_alt_name_matcher::SanType as S;
    let mut read = Vec::new();
    for (i, one) in given.match_typed_subject_alt_names.iter().enumerate() {
        let field = format!("match_typed_subject_alt_names[{i}]");
        let kind = match S::try_from(one.san_type) {
            Ok(S::Uri) => SanKind::Uri,
            Ok(S::Dns) => SanKind::Dns,
            Ok(S::Email) => SanKind::Email,
            Ok(S::IpAddress) => SanKind::Ip,
            Ok(S::Unspecified | S::OtherName) | Err(_) => return Err(Invalid::unsupported(field, format!("SAN type {}", one.san_type))),
        };
        let matcher = one.matcher.as_ref().ok_or_else(|| Invalid::new(field.clone(), "has no matcher"))?;
        read.push(SanMatch { kind, matcher: StringMatch::from_xds(matcher).within(field)? });
    }
    for (i, matcher) in given.match_subject_alt_names.iter().enumerate() {
        let matcher = StringMatch::from_xds(matcher).within(format!("match_subject_alt_names[{i}]"))?;
        read.push(SanMatch { kind: SanKind::Any, matcher });
    }
    Ok(read)
}

/// Reads a secret.
///
/// # Errors
/// A secret that is neither a certificate nor a validation context.
pub fn secret(given: &xtls::Secret) -> Result<Secret, Invalid> {
    use xtls::secret::Type as T;
    let body = match &given.r#type {
        Some(T::TlsCertificate(certificate)) => SecretBody::Certificate(tls_certificate(certificate).within("tls_certificate")?),
        Some(T::ValidationContext(context)) => {
            let read = inline_validation(context).within("validation_context")?;
            match read.trusted_ca {
                CaSource::Inline(trusted_ca) => SecretBody::Validation { trusted_ca, san: read.san },
                CaSource::Sds(_) | CaSource::Unchecked => return Err(Invalid::new("validation_context.trusted_ca", "is required")),
            }
        }
        Some(T::SessionTicketKeys(_)) => return Err(Invalid::unsupported("session_ticket_keys", "a secret of this type")),
        Some(T::GenericSecret(_)) => return Err(Invalid::unsupported("generic_secret", "a secret of this type")),
        None => return Err(Invalid::new("type", "is empty")),
    };
    Ok(Secret { name: given.name.as_str().into(), body })
}
