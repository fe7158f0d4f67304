//! Access logs off the wire.
//!
//! - Reads: `config.accesslog.v3.AccessLog`.

use super::{AccessLog, Compare, CompareOp, LogFilter, Sink};
use crate::any::Typed;
use crate::fraction::Fraction;
use crate::rejected::{Invalid, Within};
use crate::string_match::HeaderMatch;
use lateen_envoy_api::envoy::config::accesslog::v3 as xlog;
use lateen_envoy_api::envoy::config::core::v3 as xcore;
use lateen_envoy_api::envoy::extensions::access_loggers as xloggers;
use lateen_telemetry::access_log::{ENVOY_DEFAULT, Format};
use prost::Name as _;
use std::sync::Arc;

/// Reads a list of access logs.
pub(crate) fn access_logs(given: &[xlog::AccessLog]) -> Result<Vec<Arc<AccessLog>>, Invalid> {
    let read = |(i, log): (usize, &xlog::AccessLog)| access_log(log).map(Arc::new).within(format!("access_log[{i}]"));
    given.iter().enumerate().map(read).collect()
}

/// Reads an access log.
///
/// # Errors
/// A logger other than file, stdout and stderr; a format that does not compile; an unsupported filter.
pub fn access_log(given: &xlog::AccessLog) -> Result<AccessLog, Invalid> {
    let Some(xlog::access_log::ConfigType::TypedConfig(any)) = &given.config_type else {
        return Err(Invalid::new("typed_config", format!("of `{}` is empty", given.name)));
    };
    let (sink, format) = sink(&given.name, &Typed::of(any).within("typed_config")?).within("typed_config")?;
    Ok(AccessLog { sink, format, filter: given.filter.as_ref().map(|f| filter(f, 0)).transpose().within("filter")? })
}

fn sink(name: &str, typed: &Typed) -> Result<(Sink, Format), Invalid> {
    let is = |full_name: String| typed.name() == full_name;
    if is(xloggers::file::v3::FileAccessLog::full_name()) {
        use xloggers::file::v3::file_access_log::AccessLogFormat as F;
        let file: xloggers::file::v3::FileAccessLog = typed.read()?;
        let format = match &file.access_log_format {
            None => text(ENVOY_DEFAULT)?,
            Some(F::Format(source)) => text(source)?,
            Some(F::JsonFormat(json) | F::TypedJsonFormat(json)) => Format::json(json).map_err(|e| Invalid::new("json_format", e.to_string()))?,
            Some(F::LogFormat(source)) => substitution(source).within("log_format")?,
        };
        let sink = match file.path.as_str() {
            "/dev/stdout" => Sink::Stdout,
            "/dev/stderr" => Sink::Stderr,
            "" => return Err(Invalid::new("path", "is empty")),
            path => Sink::File(path.into()),
        };
        return Ok((sink, format));
    }
    if is(xloggers::stream::v3::StdoutAccessLog::full_name()) {
        use xloggers::stream::v3::stdout_access_log::AccessLogFormat as F;
        let log: xloggers::stream::v3::StdoutAccessLog = typed.read()?;
        let format = log.access_log_format.as_ref().map_or_else(|| text(ENVOY_DEFAULT), |F::LogFormat(source)| substitution(source))?;
        return Ok((Sink::Stdout, format));
    }
    if is(xloggers::stream::v3::StderrAccessLog::full_name()) {
        use xloggers::stream::v3::stderr_access_log::AccessLogFormat as F;
        let log: xloggers::stream::v3::StderrAccessLog = typed.read()?;
        let format = log.access_log_format.as_ref().map_or_else(|| text(ENVOY_DEFAULT), |F::LogFormat(source)| substitution(source))?;
        return Ok((Sink::Stderr, format));
    }
    Err(Invalid::unsupported("", format!("access logger `{name}` ({})", typed.name())))
}

fn text(source: &str) -> Result<Format, Invalid> {
    Format::text(source).map_err(|e| Invalid::new("format", e.to_string()))
}

fn substitution(given: &xcore::SubstitutionFormatString) -> Result<Format, Invalid> {
    use xcore::substitution_format_string::Format as F;
    // Istio lists the formatters that give METADATA and REQ_WITHOUT_QUERY; an operator they would give is checked by name anyway.
    match &given.format {
        Some(F::TextFormat(source)) => text(source),
        Some(F::JsonFormat(json)) => Format::json(json).map_err(|e| Invalid::new("json_format", e.to_string())),
        Some(F::TextFormatSource(source)) => match crate::cluster::data_source(Some(source)).within("text_format_source")? {
            crate::listener::tls::DataSource::Bytes(bytes) => text(&String::from_utf8_lossy(&bytes)),
            crate::listener::tls::DataSource::File(path) => Err(Invalid::unsupported("text_format_source", path)),
        },
        None => text(ENVOY_DEFAULT),
    }
}

/// Filters may nest this deep.
const DEPTH_MAX: u32 = 16;

fn filter(given: &xlog::AccessLogFilter, depth: u32) -> Result<LogFilter, Invalid> {
    use xlog::access_log_filter::FilterSpecifier as S;
    if depth > DEPTH_MAX {
        return Err(Invalid::new("", format!("filters nest deeper than {DEPTH_MAX}")));
    }
    let all = |list: &[xlog::AccessLogFilter]| list.iter().map(|f| filter(f, depth + 1)).collect::<Result<Vec<_>, _>>();
    Ok(match &given.filter_specifier {
        None => return Err(Invalid::new("filter_specifier", "is empty")),
        Some(S::StatusCodeFilter(f)) => LogFilter::Status(compare(f.comparison.as_ref()).within("status_code_filter")?),
        Some(S::DurationFilter(f)) => LogFilter::DurationMillis(compare(f.comparison.as_ref()).within("duration_filter")?),
        Some(S::NotHealthCheckFilter(_)) => LogFilter::NotHealthCheck,
        Some(S::TraceableFilter(_)) => LogFilter::Traceable,
        Some(S::RuntimeFilter(f)) => match &f.percent_sampled {
            Some(fraction) => LogFilter::Fraction(Fraction::from_xds(fraction).within("runtime_filter")?),
            None => LogFilter::Fraction(Fraction::NEVER),
        },
        Some(S::AndFilter(f)) => LogFilter::And(all(&f.filters).within("and_filter")?),
        Some(S::OrFilter(f)) => LogFilter::Or(all(&f.filters).within("or_filter")?),
        Some(S::HeaderFilter(f)) => {
            let header = f.header.as_ref().ok_or_else(|| Invalid::new("header_filter.header", "is required"))?;
            LogFilter::Header(HeaderMatch::from_xds(header).within("header_filter")?)
        }
        Some(S::ResponseFlagFilter(f)) => {
            if let Some(unknown) = f.flags.iter().find(|f| lateen_telemetry::ResponseFlags::from_short(f).is_none()) {
                return Err(Invalid::unsupported("response_flag_filter", format!("flag `{unknown}`")));
            }
            LogFilter::Flags(f.flags.iter().map(|f| f.as_str().into()).collect())
        }
        Some(S::GrpcStatusFilter(f)) => LogFilter::GrpcStatus(f.statuses.iter().filter_map(|s| u32::try_from(*s).ok()).collect(), f.exclude),
        Some(S::ExtensionFilter(f)) => return Err(Invalid::unsupported("extension_filter", &f.name)),
        Some(S::MetadataFilter(_)) => return Err(Invalid::unsupported("metadata_filter", "filtering by metadata")),
        Some(S::LogTypeFilter(_)) => return Err(Invalid::unsupported("log_type_filter", "filtering by log type")),
    })
}

fn compare(given: Option<&xlog::ComparisonFilter>) -> Result<Compare, Invalid> {
    use xlog::comparison_filter::Op as O;
    let given = given.ok_or_else(|| Invalid::new("comparison", "is required"))?;
    let op = match O::try_from(given.op) {
        Ok(O::Eq) => CompareOp::Eq,
        Ok(O::Ge) => CompareOp::Ge,
        Ok(O::Le) => CompareOp::Le,
        Ok(O::Ne) => CompareOp::Ne,
        Err(_) => return Err(Invalid::new("comparison.op", format!("{} is not known", given.op))),
    };
    Ok(Compare { op, value: given.value.as_ref().map_or(0, |v| v.default_value) })
}
