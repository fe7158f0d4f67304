//! Access logs: format strings compiled once, lines written into a reusable buffer.
//!
//! - Reads: `config.core.v3.SubstitutionFormatString`'s text and JSON formats (Envoy «Access logging» page).
//! - Twin: `compile/src/access_log.rs`.
//! - Rule: an unknown operator is an error when configuration arrives, never a `-` in the log.
//! - Rule: in a text line, bytes from the network cannot end the line or close a quote: they are escaped.
//! - Not here: parsing (`parse`), writing one operator (`value`), JSON (`json`), which requests are logged (`plan`).

mod json;
mod parse;
mod record;
mod time;
mod value;

pub use parse::FormatError;
pub use record::{AccessRecord, HeaderSource, NoHeaders};
pub use time::{TimeFormat, write_utc};

use json::Node;
use parse::Op;
use lateen_envoy_api::wkt;

/// A compiled format.
#[derive(Clone, Debug, PartialEq)]
pub struct Format {
    body: Body,
    source: String,
}

#[derive(Clone, Debug, PartialEq)]
enum Body {
    Text(Vec<Op>),
    Json(Node),
}

/// Istio's text format when MeshConfig names none.
pub const ISTIO_DEFAULT: &str = concat!(
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% ",
    "%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% ",
    "%BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" ",
    "\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% ",
    "%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
);

/// Envoy's own text format when none is configured.
pub const ENVOY_DEFAULT: &str = concat!(
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% ",
    "%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" ",
    "\"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n"
);

impl Format {
    /// Compiles a text format.
    ///
    /// # Errors
    /// An unknown operator, a malformed argument, a `%` without its partner.
    pub fn text(source: &str) -> Result<Self, FormatError> {
        Ok(Self { body: Body::Text(parse::parse(source)?), source: source.into() })
    }

    /// Compiles a JSON format; each line is one object with its keys sorted.
    ///
    /// # Errors
    /// As [`Self::text`], for any string inside.
    pub fn json(source: &wkt::Struct) -> Result<Self, FormatError> {
        Ok(Self { body: Body::Json(json::object(source)?), source: "json_format".into() })
    }

    /// The format string; `json_format` for a JSON format.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Appends the line of `record` to `out`, line break included.
    pub fn write(&self, record: &AccessRecord<'_>, out: &mut Vec<u8>) {
        match &self.body {
            Body::Text(ops) => ops.iter().for_each(|op| value::write_text(op, record, out, value::Escape::Text)),
            Body::Json(node) => {
                node.write(record, out);
                out.push(b'\n');
            }
        }
    }

    /// Appends the value of `record` to `out` as it stands: for headers written by format. An absent value writes nothing.
    pub fn write_header_value(&self, record: &AccessRecord<'_>, out: &mut Vec<u8>) {
        if let Body::Text(ops) = &self.body {
            ops.iter().for_each(|op| value::write_text(op, record, out, value::Escape::Header));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::ResponseFlags;
    use std::time::Duration;

    struct Pairs(Vec<(&'static str, &'static str)>);
    impl HeaderSource for Pairs {
        fn get(&self, name: &str) -> Option<&[u8]> {
            self.0.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_bytes())
        }
    }

    fn line(format: &Format, request: &Pairs, response: &Pairs) -> String {
        let record = AccessRecord {
            start: Duration::from_millis(1_700_000_000_123),
            request,
            response,
            protocol: Some("HTTP/1.1"),
            response_code: 200,
            response_code_details: Some("via_upstream"),
            bytes_sent: 12,
            duration: Some(Duration::from_micros(7_900)),
            upstream_host: Some("10.244.0.5:8080".parse().unwrap()),
            upstream_cluster: Some("outbound|80||backend.default.svc.cluster.local"),
            upstream_local_address: Some("10.244.0.4:5555".parse().unwrap()),
            downstream_local_address: Some("10.96.0.6:80".parse().unwrap()),
            downstream_remote_address: Some("10.244.0.4:4444".parse().unwrap()),
            route_name: Some("default"),
            ..AccessRecord::default()
        };
        let mut out = Vec::new();
        format.write(&record, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn request() -> Pairs {
        Pairs(vec![(":method", "GET"), (":path", "/x?y"), (":authority", "backend"), ("user-agent", "curl/8"), ("x-request-id", "r-1")])
    }

    #[test]
    fn istios_default_line_is_complete() {
        let got = line(&Format::text(ISTIO_DEFAULT).unwrap(), &request(), &Pairs(vec![("x-envoy-upstream-service-time", "6")]));
        assert_eq!(
            got,
            "[2023-11-14T22:13:20.123Z] \"GET /x?y HTTP/1.1\" 200 - via_upstream - \"-\" 0 12 7 6 \"-\" \"curl/8\" \"r-1\" \"backend\" \
             \"10.244.0.5:8080\" outbound|80||backend.default.svc.cluster.local 10.244.0.4:5555 10.96.0.6:80 10.244.0.4:4444 - default\n"
        );
    }

    #[test]
    fn a_header_cannot_forge_a_line() {
        let bad = Pairs(vec![("user-agent", "x\" 200\r\n[forged] \x1b[31m")]);
        let got = line(&Format::text("\"%REQ(USER-AGENT)%\"\n").unwrap(), &bad, &Pairs(vec![]));
        assert_eq!(got, "\"x\\\" 200\\r\\n[forged] \\x1b[31m\"\n");
    }

    #[test]
    fn the_second_header_stands_in_for_the_first() {
        let format = Format::text("%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%").unwrap();
        assert_eq!(line(&format, &Pairs(vec![(":path", "/new"), ("x-envoy-original-path", "/old")]), &Pairs(vec![])), "/old");
        assert_eq!(line(&format, &Pairs(vec![(":path", "/new")]), &Pairs(vec![])), "/new");
    }

    #[test]
    fn a_length_cuts_the_value() {
        assert_eq!(line(&Format::text("%REQ(USER-AGENT):3%").unwrap(), &request(), &Pairs(vec![])), "cur");
    }

    #[test]
    fn an_unknown_operator_is_an_error_that_names_it() {
        let error = Format::text("%MOON_PHASE%").unwrap_err();
        assert!(error.to_string().contains("MOON_PHASE"), "{error}");
    }

    #[test]
    fn json_keeps_numbers_and_writes_null_for_absent_values() {
        let fields = [("code", "%RESPONSE_CODE%"), ("agent", "%REQ(USER-AGENT)%"), ("none", "%REQ(NOPE)%"), ("mixed", "a-%PROTOCOL%")];
        let string = |s: &str| wkt::Value { kind: Some(wkt::value::Kind::StringValue(s.into())) };
        let source = wkt::Struct { fields: fields.iter().map(|(k, v)| ((*k).to_owned(), string(v))).collect() };
        let got = line(&Format::json(&source).unwrap(), &request(), &Pairs(vec![]));
        assert_eq!(got, "{\"agent\":\"curl/8\",\"code\":200,\"mixed\":\"a-HTTP/1.1\",\"none\":null}\n");
    }

    #[test]
    fn flags_are_words_or_a_dash() {
        let format = Format::text("%RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG%").unwrap();
        let record = AccessRecord { flags: ResponseFlags::NO_ROUTE_FOUND, ..AccessRecord::default() };
        let mut out = Vec::new();
        format.write(&record, &mut out);
        assert_eq!(out, b"NR NoRouteFound");
    }

    #[test]
    fn a_double_percent_is_a_percent() {
        assert_eq!(line(&Format::text("100%%").unwrap(), &request(), &Pairs(vec![])), "100%");
    }
}
