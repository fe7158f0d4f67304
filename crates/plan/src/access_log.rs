//! Access logs as configured: where to, in which format, and for which requests.
//!
//! - Reads: `config.accesslog.v3.AccessLog` with the file, stdout and stderr loggers (Envoy).
//! - Rule: formats are compiled here; an unknown operator refuses the resource.
//! - Not here: formatting (`telemetry`), writing (`proxy`).

use crate::fraction::Fraction;
use crate::names::Name;
use crate::string_match::HeaderMatch;
use lateen_telemetry::access_log::Format;

mod from_xds;
pub use from_xds::access_log;
pub(crate) use from_xds::access_logs;

/// One access log.
#[derive(Debug, PartialEq)]
pub struct AccessLog {
    /// Where lines go.
    pub sink: Sink,
    /// What a line holds.
    pub format: Format,
    /// Which requests get one. `None`: all.
    pub filter: Option<LogFilter>,
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Sink {
    /// Standard output (also the file `/dev/stdout`).
    Stdout,
    /// Standard error (also the file `/dev/stderr`).
    Stderr,
    /// A file.
    File(Name),
}

/// Which requests are logged. Source: `AccessLogFilter`.
#[derive(Clone, Debug, PartialEq)]
pub enum LogFilter {
    /// By status code.
    Status(Compare),
    /// By duration in milliseconds.
    DurationMillis(Compare),
    /// Not health checks.
    NotHealthCheck,
    /// Only traced requests.
    Traceable,
    /// Some.
    Fraction(Fraction),
    /// All of these hold.
    And(Vec<LogFilter>),
    /// One of these holds.
    Or(Vec<LogFilter>),
    /// A request header.
    Header(HeaderMatch),
    /// One of these response flags; empty: any flag.
    Flags(Vec<Name>),
    /// A gRPC status; the second field inverts.
    GrpcStatus(Vec<u32>, bool),
}

/// A comparison with a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compare {
    /// How.
    pub op: CompareOp,
    /// With what.
    pub value: u32,
}

/// Ways to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareOp {
    /// Equal.
    Eq,
    /// At least.
    Ge,
    /// At most.
    Le,
    /// Different.
    Ne,
}

impl Compare {
    /// Whether `number` stands in this relation to the value.
    #[must_use]
    pub fn holds(self, number: u64) -> bool {
        let value = u64::from(self.value);
        match self.op {
            CompareOp::Eq => number == value,
            CompareOp::Ge => number >= value,
            CompareOp::Le => number <= value,
            CompareOp::Ne => number != value,
        }
    }
}

/// The facts a [`LogFilter`] looks at.
#[derive(Clone, Copy, Debug)]
pub struct LogFacts<'a> {
    /// Status code, 0: none.
    pub status: u16,
    /// Duration in milliseconds.
    pub duration_millis: u64,
    /// Response flags as text, such as `URX,UF`; `-` or empty: none.
    pub flags: &'a str,
    /// gRPC status. `None`: not gRPC.
    pub grpc_status: Option<u32>,
    /// A health check.
    pub health_check: bool,
    /// Sampled for tracing.
    pub traced: bool,
    /// A random draw.
    pub draw: u64,
}

impl LogFilter {
    /// Whether the request is logged; `header` answers whether a condition on a request header holds. Pure.
    pub fn passes(&self, facts: &LogFacts<'_>, header: &dyn Fn(&HeaderMatch) -> bool) -> bool {
        match self {
            Self::Status(compare) => compare.holds(u64::from(facts.status)),
            Self::DurationMillis(compare) => compare.holds(facts.duration_millis),
            Self::NotHealthCheck => !facts.health_check,
            Self::Traceable => facts.traced,
            Self::Fraction(fraction) => fraction.hit(facts.draw),
            Self::And(all) => all.iter().all(|f| f.passes(facts, header)),
            Self::Or(any) => any.iter().any(|f| f.passes(facts, header)),
            Self::Header(matcher) => header(matcher),
            Self::Flags(want) => {
                let has = |flag: &str| facts.flags.split(',').any(|f| f == flag);
                if want.is_empty() { !facts.flags.is_empty() && facts.flags != "-" } else { want.iter().any(|f| has(f)) }
            }
            Self::GrpcStatus(want, invert) => facts.grpc_status.is_some_and(|s| want.contains(&s)) != *invert,
        }
    }
}
