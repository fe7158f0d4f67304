//! Format strings into operators.
//!
//! - Reads: `%NAME(argument):length%`, `%%`, and text.
//! - Rule: names are Envoy's; one that is not in the table is an error that lists what is near.
//! - Not here: writing values (`value`).

use super::time::TimeFormat;
use std::fmt;

/// A format that does not compile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatError {
    /// The format or the part of it that is wrong.
    pub part: String,
    /// What is wrong.
    pub why: String,
}

impl FormatError {
    pub(super) fn new(part: &str, why: impl Into<String>) -> Self {
        Self { part: part.into(), why: why.into() }
    }
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "log format `{}`: {}", self.part.trim_end(), self.why)
    }
}

impl std::error::Error for FormatError {}

/// One piece of a line.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Op {
    Literal(Box<[u8]>),
    Value(Value, Option<usize>),
}

/// A value looked up in the record.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Request(Header),
    RequestWithoutQuery(Header),
    Response(Header),
    Trailer(Header),
    StartTime(Option<TimeFormat>),
    Metadata(String, String),
    FilterState(String),
    GrpcStatus(GrpcStatus),
    Fact(Fact),
}

/// A header, and another that stands in for it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Header {
    pub(super) name: String,
    pub(super) otherwise: Option<String>,
}

/// How a gRPC status is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GrpcStatus {
    Camel,
    Snake,
    Number,
}

macro_rules! facts {
    ($($name:ident $word:literal,)*) => {
        /// A value without arguments.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Fact { $($name,)* }
        const FACTS: &[(&str, Fact)] = &[$(($word, Fact::$name),)*];
    };
}

facts! {
    Protocol "PROTOCOL",
    UpstreamProtocol "UPSTREAM_PROTOCOL",
    ResponseCode "RESPONSE_CODE",
    ResponseFlags "RESPONSE_FLAGS",
    ResponseFlagsLong "RESPONSE_FLAGS_LONG",
    ResponseCodeDetails "RESPONSE_CODE_DETAILS",
    ConnectionTerminationDetails "CONNECTION_TERMINATION_DETAILS",
    UpstreamTransportFailureReason "UPSTREAM_TRANSPORT_FAILURE_REASON",
    DownstreamTransportFailureReason "DOWNSTREAM_TRANSPORT_FAILURE_REASON",
    BytesReceived "BYTES_RECEIVED",
    BytesSent "BYTES_SENT",
    Duration "DURATION",
    RequestDuration "REQUEST_DURATION",
    ResponseDuration "RESPONSE_DURATION",
    ResponseTxDuration "RESPONSE_TX_DURATION",
    UpstreamHost "UPSTREAM_HOST",
    UpstreamRemoteAddress "UPSTREAM_REMOTE_ADDRESS",
    UpstreamRemoteIp "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
    UpstreamRemotePort "UPSTREAM_REMOTE_PORT",
    UpstreamCluster "UPSTREAM_CLUSTER",
    UpstreamClusterRaw "UPSTREAM_CLUSTER_RAW",
    UpstreamLocalAddress "UPSTREAM_LOCAL_ADDRESS",
    UpstreamLocalIp "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
    UpstreamLocalPort "UPSTREAM_LOCAL_PORT",
    UpstreamRequestAttemptCount "UPSTREAM_REQUEST_ATTEMPT_COUNT",
    DownstreamLocalAddress "DOWNSTREAM_LOCAL_ADDRESS",
    DownstreamLocalIp "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
    DownstreamLocalPort "DOWNSTREAM_LOCAL_PORT",
    DownstreamRemoteAddress "DOWNSTREAM_REMOTE_ADDRESS",
    DownstreamRemoteIp "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
    DownstreamRemotePort "DOWNSTREAM_REMOTE_PORT",
    DownstreamDirectRemoteAddress "DOWNSTREAM_DIRECT_REMOTE_ADDRESS",
    DownstreamDirectRemoteIp "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT",
    DownstreamDirectRemotePort "DOWNSTREAM_DIRECT_REMOTE_PORT",
    DownstreamPeerUriSan "DOWNSTREAM_PEER_URI_SAN",
    DownstreamPeerSubject "DOWNSTREAM_PEER_SUBJECT",
    DownstreamLocalUriSan "DOWNSTREAM_LOCAL_URI_SAN",
    DownstreamTlsVersion "DOWNSTREAM_TLS_VERSION",
    DownstreamTlsCipher "DOWNSTREAM_TLS_CIPHER",
    RequestedServerName "REQUESTED_SERVER_NAME",
    RouteName "ROUTE_NAME",
    VirtualHostName "VIRTUAL_HOST_NAME",
    FilterChainName "FILTER_CHAIN_NAME",
    ConnectionId "CONNECTION_ID",
    Hostname "HOSTNAME",
}

/// Compiles `source`.
pub(super) fn parse(source: &str) -> Result<Vec<Op>, FormatError> {
    let mut ops = Vec::new();
    let mut literal = String::new();
    let mut rest = source;
    while let Some((before, after)) = rest.split_once('%') {
        literal.push_str(before);
        if let Some(tail) = after.strip_prefix('%') {
            literal.push('%');
            rest = tail;
            continue;
        }
        let (op, tail) = operator(source, after)?;
        if !literal.is_empty() {
            ops.push(Op::Literal(std::mem::take(&mut literal).into_bytes().into()));
        }
        ops.push(op);
        rest = tail;
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        ops.push(Op::Literal(literal.into_bytes().into()));
    }
    Ok(ops)
}

/// Reads one operator, whose `%` is already read, and what follows its closing `%`.
fn operator<'a>(source: &str, text: &'a str) -> Result<(Op, &'a str), FormatError> {
    let unclosed = || FormatError::new(source, format!("`%{}` has no closing %", text.chars().take(20).collect::<String>()));
    let name_end = text.find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')).ok_or_else(unclosed)?;
    let (name, mut rest) = text.split_at(name_end);
    let mut argument = None;
    if let Some(inner) = rest.strip_prefix('(') {
        // An argument may hold `%` (time formats): it ends at the `)` that is followed by `%` or `:`.
        let end = inner.match_indices(')').map(|(at, _)| at).find(|at| inner[at + 1..].starts_with(['%', ':'])).ok_or_else(unclosed)?;
        argument = Some(&inner[..end]);
        rest = &inner[end + 1..];
    }
    let mut length = None;
    if let Some(digits) = rest.strip_prefix(':') {
        let end = digits.find('%').ok_or_else(unclosed)?;
        let number = &digits[..end];
        length = Some(number.parse().map_err(|_| FormatError::new(source, format!("`{number}` is not a length")))?);
        rest = &digits[end..];
    }
    let rest = rest.strip_prefix('%').ok_or_else(unclosed)?;
    Ok((Op::Value(value(source, name, argument)?, length), rest))
}

fn value(source: &str, name: &str, argument: Option<&str>) -> Result<Value, FormatError> {
    let required = || argument.filter(|a| !a.is_empty()).ok_or_else(|| FormatError::new(source, format!("%{name}% needs an argument")));
    Ok(match name {
        "REQ" => Value::Request(header(required()?)),
        "REQ_WITHOUT_QUERY" => Value::RequestWithoutQuery(header(required()?)),
        "RESP" => Value::Response(header(required()?)),
        "TRAILER" => Value::Trailer(header(required()?)),
        "START_TIME" => Value::StartTime(argument.filter(|a| !a.is_empty()).map(TimeFormat::new).transpose()?),
        "GRPC_STATUS" => Value::GrpcStatus(match argument.unwrap_or("CAMEL_STRING") {
            "" | "CAMEL_STRING" => GrpcStatus::Camel,
            "SNAKE_STRING" => GrpcStatus::Snake,
            "NUMBER" => GrpcStatus::Number,
            other => return Err(FormatError::new(source, format!("%GRPC_STATUS({other})% is not known"))),
        }),
        "GRPC_STATUS_NUMBER" => Value::GrpcStatus(GrpcStatus::Number),
        "DYNAMIC_METADATA" => {
            let (filter, path) = required()?.split_once(':').ok_or_else(|| FormatError::new(source, "%DYNAMIC_METADATA% needs `filter:key`"))?;
            Value::Metadata(filter.into(), path.into())
        }
        "FILTER_STATE" => Value::FilterState(required()?.split(':').next().unwrap_or_default().into()),
        // `RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES)` keeps spaces; ours have none to keep.
        _ => match FACTS.iter().find(|(word, _)| *word == name) {
            Some((_, fact)) => Value::Fact(*fact),
            None => return Err(FormatError::new(source, format!("%{name}% is not a known operator"))),
        },
    })
}

fn header(argument: &str) -> Header {
    let (name, otherwise) = argument.split_once('?').map_or((argument, None), |(a, b)| (a, Some(b)));
    Header { name: name.to_ascii_lowercase(), otherwise: otherwise.map(str::to_ascii_lowercase) }
}
