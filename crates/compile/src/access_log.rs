//! Access log: one line for every request and every connection, in Istio's default format.
//!
//! - Reads: `MeshConfig.accessLogFile`, `accessLogFormat`, `accessLogEncoding`; Telemetry `accessLogging[].disabled`.
//! - Twin: `telemetry/src/access_log/mod.rs`, which compiles the format and writes the lines; `kinds/src/telemetry/mod.rs`.
//! - Rule: a listener's own log holds only connections that found no filter chain (flag `NR`).
//! - Not here: metrics and traces.

use crate::View;
use lateen_envoy_api::envoy::config::accesslog::v3::{self as accesslog, AccessLog};
use lateen_envoy_api::envoy::config::core::v3::{self as core, SubstitutionFormatString};
use lateen_envoy_api::envoy::extensions::access_loggers::file::v3::{FileAccessLog, file_access_log::AccessLogFormat};
use lateen_envoy_api::{pack, wkt};
use lateen_mesh::AccessLogEncoding;

/// Istio's default text format. Source: istio.io "Getting Envoy's Access Logs", default format.
pub(crate) const DEFAULT_TEXT_FORMAT: &str = concat!(
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% ",
    "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% ",
    "\"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% ",
    "%DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" ",
    "\"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" ",
    "%UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% ",
    "%DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n",
);

/// Fields of Istio's default JSON format, each with its operator.
const DEFAULT_JSON_FORMAT: &[(&str, &str)] = &[
    ("start_time", "%START_TIME%"),
    ("route_name", "%ROUTE_NAME%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
    ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    ("upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
];

/// The logs of a filter (HTTP connection manager or TCP proxy); none when logging is off.
pub(crate) fn filter_logs(view: &View<'_>) -> Vec<AccessLog> {
    if !enabled(view) {
        return Vec::new();
    }
    vec![log(view, None)]
}

/// The logs of a listener: connections that matched no filter chain.
pub(crate) fn listener_logs(view: &View<'_>) -> Vec<AccessLog> {
    if !enabled(view) {
        return Vec::new();
    }
    let no_route = accesslog::ResponseFlagFilter { flags: vec!["NR".to_owned()] };
    let filter = accesslog::AccessLogFilter { filter_specifier: Some(accesslog::access_log_filter::FilterSpecifier::ResponseFlagFilter(no_route)) };
    vec![log(view, Some(filter))]
}

fn enabled(view: &View<'_>) -> bool {
    if view.config().access_log_file.is_empty() {
        return false;
    }
    let telemetries = view.snapshot.telemetries_of(&view.proxy.namespace, &view.proxy.labels);
    let deciding = telemetries.iter().rev().find_map(|t| t.spec.access_logging.last());
    deciding.is_none_or(|logging| logging.disabled != Some(true))
}

fn log(view: &View<'_>, filter: Option<accesslog::AccessLogFilter>) -> AccessLog {
    let config = view.config();
    let format = match config.access_log_encoding {
        AccessLogEncoding::Text => {
            let text = if config.access_log_format.is_empty() { DEFAULT_TEXT_FORMAT } else { &config.access_log_format };
            let source = core::DataSource { specifier: Some(core::data_source::Specifier::InlineString(text.to_owned())), ..Default::default() };
            core::substitution_format_string::Format::TextFormatSource(source)
        }
        AccessLogEncoding::Json => core::substitution_format_string::Format::JsonFormat(json_format(&config.access_log_format)),
    };
    let file = FileAccessLog {
        path: config.access_log_file.clone(),
        access_log_format: Some(AccessLogFormat::LogFormat(SubstitutionFormatString { format: Some(format), ..Default::default() })),
    };
    AccessLog {
        name: "envoy.access_loggers.file".to_owned(),
        filter,
        config_type: Some(accesslog::access_log::ConfigType::TypedConfig(pack(&file))),
    }
}

fn json_format(custom: &str) -> wkt::Struct {
    if let Ok(format) = serde_json::from_str::<wkt::Struct>(custom) {
        return format;
    }
    wkt::Struct { fields: DEFAULT_JSON_FORMAT.iter().map(|(name, operator)| ((*name).to_owned(), crate::pb::text(*operator))).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_line_ends_with_the_route_name() {
        assert!(DEFAULT_TEXT_FORMAT.ends_with("%ROUTE_NAME%\n"));
    }
}
