//! `/certs`: the certificates in use.
//!
//! - Rule: shape of `admin.v3.Certificates`.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::Answer;
use crate::server::Server;
use crate::transport::certificate::PeerCertificate;
use crate::transport::sds::Material;

/// Answers.
pub fn answer(server: &Server) -> Answer {
    let secrets = server.secrets();
    let (mut chains, mut anchors) = (Vec::new(), Vec::new());
    for (name, material) in secrets.iter() {
        match material {
            Material::Key(pair) => chains.push(details(&name.name, &pair.leaf)),
            Material::Trust(bundle) => anchors.extend(bundle.certificates.iter().map(|c| details(&name.name, c))),
        }
    }
    Answer::json(&json!({ "certificates": [{ "ca_cert": anchors, "cert_chain": chains }] }))
}

fn details(name: &str, certificate: &PeerCertificate) -> Value {
    let uris = certificate.uri_sans.iter().map(|uri| json!({ "uri": uri }));
    let names = uris.chain(certificate.dns_sans.iter().map(|dns| json!({ "dns": dns }))).collect::<Vec<_>>();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX));
    let days = (certificate.not_after - now).max(0) / SECONDS_PER_DAY;
    json!({
        "path": format!("<inline: {name}>"),
        "serial_number": certificate.serial,
        "subject_alt_names": names,
        "days_until_expiration": days.to_string(),
        "valid_from": rfc3339(certificate.not_before),
        "expiration_time": rfc3339(certificate.not_after),
    })
}

const SECONDS_PER_DAY: i64 = 86_400;

/// Seconds since 1970 as `2026-01-02T03:04:05Z`.
pub fn rfc3339(seconds: i64) -> String {
    let at = UNIX_EPOCH + std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    time_text(at)
}

/// A moment as `2026-01-02T03:04:05Z`.
pub fn time_text(at: SystemTime) -> String {
    // RFC 9110 dates carry the same fields: `Fri, 02 Jan 2026 03:04:05 GMT`.
    let text = httpdate::fmt_http_date(at);
    let mut words = text.split_whitespace().skip(1);
    let (Some(day), Some(month), Some(year), Some(clock)) = (words.next(), words.next(), words.next(), words.next()) else { return text };
    let month = MONTHS.iter().position(|m| *m == month).map_or(0, |at| at + 1);
    format!("{year}-{month:02}-{day}T{clock}Z")
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_rfc_3339() {
        assert_eq!(rfc3339(1_700_000_000), "2023-11-14T22:13:20Z");
    }
}
