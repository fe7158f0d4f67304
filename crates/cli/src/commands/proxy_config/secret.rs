//! `proxy-config secret`.

use lateen_envoy_api::envoy::config::core::v3::{DataSource, data_source::Specifier};
use serde_json::Value;
use x509_parser::{pem::Pem, prelude::X509Certificate};

use super::{Dumps, down, field, list, raw, section, string};
use crate::args::ProxyConfig;

const HEADS: &[&str] = &["RESOURCE NAME", "TYPE", "STATUS", "VALID CERT", "SERIAL NUMBER", "NOT AFTER", "NOT BEFORE"];

/// Heads, rows and raw resources.
pub(super) fn table(dumps: &Dumps, _flags: &ProxyConfig) -> (&'static [&'static str], Vec<Vec<String>>, Value) {
    let Some(section) = section(&dumps.config, "SecretsConfigDump") else { return (HEADS, Vec::new(), Value::Array(Vec::new())) };
    let lists = [("dynamic_active_secrets", "ACTIVE"), ("static_secrets", "ACTIVE"), ("dynamic_warming_secrets", "WARMING")];
    let mut rows = Vec::new();
    let mut all = Vec::new();
    for (name, status) in lists {
        for entry in list(section, &[name]) {
            rows.push(row(entry, status));
            all.push(entry);
        }
    }
    (HEADS, rows, raw(&all))
}

fn row(entry: &Value, status: &str) -> Vec<String> {
    let secret = field(entry, "secret").unwrap_or(entry);
    let chain = down(secret, &["tls_certificate", "certificate_chain"]);
    let (kind, source) = match (chain, down(secret, &["validation_context", "trusted_ca"])) {
        (Some(chain), _) => ("Cert Chain", Some(chain)),
        (None, Some(ca)) => ("CA", Some(ca)),
        (None, None) => ("Unknown", None),
    };
    let name = Some(string(entry, &["name"])).filter(|name| !name.is_empty()).unwrap_or_else(|| string(secret, &["name"]));
    let mut row = vec![name.to_owned(), kind.to_owned(), status.to_owned()];
    row.extend(source.and_then(certificate).unwrap_or_else(|| vec!["false".to_owned(), String::new(), String::new(), String::new()]));
    row
}

/// Valid now, serial number, not after, not before of the first certificate.
fn certificate(source: &Value) -> Option<Vec<String>> {
    let bytes = match serde_json::from_value::<DataSource>(source.clone()).ok()?.specifier? {
        Specifier::InlineBytes(bytes) => bytes.to_vec(),
        Specifier::InlineString(text) => text.into_bytes(),
        Specifier::Filename(path) => std::fs::read(path).ok()?,
        Specifier::EnvironmentVariable(_) => return None,
    };
    let pem = Pem::iter_from_buffer(&bytes).next()?.ok()?;
    let certificate: X509Certificate<'_> = pem.parse_x509().ok()?;
    let validity = certificate.validity();
    let time = |time: &x509_parser::time::ASN1Time| {
        let text = time.to_datetime().format(&time::format_description::well_known::Rfc3339);
        text.unwrap_or_default()
    };
    Some(vec![
        validity.is_valid().to_string(),
        certificate.raw_serial_as_string().replace(':', ""),
        time(&validity.not_after),
        time(&validity.not_before),
    ])
}
