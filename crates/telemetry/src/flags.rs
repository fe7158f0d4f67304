//! Response flags: Envoy's short words for what happened to a request.
//!
//! - Source: Envoy's «%RESPONSE_FLAGS%» table.
//! - Rule: a set of bits; adding a flag twice changes nothing.
//! - Limits: Envoy prints flags in the order in which they were set; here the order is fixed so that it agrees
//!   for what happens in practice: injected faults, then the retry limit, then the last attempt's own flag.

use std::fmt;

/// A set of response flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ResponseFlags(u32);

macro_rules! flags {
    ($($bit:literal $name:ident $short:literal $long:literal $doc:literal,)*) => {
        impl ResponseFlags {
            $(#[doc = $doc] pub const $name: Self = Self(1 << $bit);)*
        }
        /// Every flag with its short and long word, in the order in which they are printed.
        const TABLE: &[(ResponseFlags, &str, &str)] = &[$((ResponseFlags::$name, $short, $long),)*];
    };
}

flags! {
    0 DELAY_INJECTED "DI" "DelayInjected" "A delay was injected.",
    1 FAULT_INJECTED "FI" "FaultInjected" "An abort was injected.",
    2 UPSTREAM_RETRY_LIMIT_EXCEEDED "URX" "UpstreamRetryLimitExceeded" "All retries were used, or all connection attempts (TCP).",
    3 NO_HEALTHY_UPSTREAM "UH" "NoHealthyUpstream" "No healthy endpoint.",
    4 UPSTREAM_REQUEST_TIMEOUT "UT" "UpstreamRequestTimeout" "The upstream took too long.",
    5 UPSTREAM_CONNECTION_FAILURE "UF" "UpstreamConnectionFailure" "No connection upstream.",
    6 UPSTREAM_CONNECTION_TERMINATION "UC" "UpstreamConnectionTermination" "The upstream connection ended.",
    7 UPSTREAM_OVERFLOW "UO" "UpstreamOverflow" "A circuit breaker refused.",
    8 UPSTREAM_REMOTE_RESET "UR" "UpstreamRemoteReset" "The upstream reset the stream.",
    9 LOCAL_RESET "LR" "LocalReset" "The stream was reset here.",
    10 NO_ROUTE_FOUND "NR" "NoRouteFound" "No route, or no filter chain.",
    11 NO_CLUSTER_FOUND "NC" "NoClusterFound" "The route's cluster does not exist.",
    12 DOWNSTREAM_CONNECTION_TERMINATION "DC" "DownstreamConnectionTermination" "The client went away.",
    13 DOWNSTREAM_PROTOCOL_ERROR "DPE" "DownstreamProtocolError" "The client broke the protocol.",
    14 UPSTREAM_PROTOCOL_ERROR "UPE" "UpstreamProtocolError" "The upstream broke the protocol.",
    15 STREAM_IDLE_TIMEOUT "SI" "StreamIdleTimeout" "The stream was idle too long.",
    16 DURATION_TIMEOUT "DT" "DurationTimeout" "The connection or stream lasted too long.",
    17 UPSTREAM_MAX_STREAM_DURATION_REACHED "UMSDR" "UpstreamMaxStreamDurationReached" "The upstream stream lasted too long.",
    18 RATE_LIMITED "RL" "RateLimited" "Refused by a rate limit.",
    19 UNAUTHORIZED_EXTERNAL_SERVICE "UAEX" "UnauthorizedExternalService" "Refused by an authorization service.",
    20 RATE_LIMIT_SERVICE_ERROR "RLSE" "RateLimitServiceError" "The rate limit service failed.",
    21 INVALID_ENVOY_REQUEST_HEADERS "IH" "InvalidEnvoyRequestHeaders" "A strictly checked header has a wrong value.",
    22 FAILED_LOCAL_HEALTH_CHECK "LH" "FailedLocalHealthCheck" "The local service failed its health check.",
    23 OVERLOAD_MANAGER "OM" "OverloadManagerTerminated" "Refused under overload.",
    24 DNS_RESOLUTION_FAILURE "DF" "DnsResolutionFailed" "A name did not resolve.",
    25 DOWNSTREAM_REMOTE_RESET "DR" "DownstreamRemoteReset" "The client reset the stream.",
    26 RESPONSE_FROM_CACHE_FILTER "RFCF" "ResponseFromCacheFilter" "Answered from a cache.",
    27 NO_FILTER_CONFIG_FOUND "NFCF" "NoFilterConfigFound" "A filter's configuration did not arrive in time.",
    28 DROP_OVERLOAD "DO" "DropOverload" "Dropped as the control plane asked.",
    29 UNCONDITIONAL_DROP_OVERLOAD "UDO" "UnconditionalDropOverload" "Dropped as the control plane asked, all of it.",
}

impl ResponseFlags {
    /// No flag.
    pub const NONE: Self = Self(0);

    /// Adds the flags of `other`.
    pub fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Whether all flags of `other` are set.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether none is set.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The flags as a number, for use as a key.
    #[must_use]
    pub fn bits(self) -> u32 {
        self.0
    }

    /// The flag that `short` names, such as `UF`.
    #[must_use]
    pub fn from_short(short: &str) -> Option<Self> {
        TABLE.iter().find(|(_, s, _)| *s == short).map(|(flag, _, _)| *flag)
    }

    /// Short words of the flags that are set.
    pub fn short(self) -> impl Iterator<Item = &'static str> {
        TABLE.iter().filter(move |(flag, _, _)| self.contains(*flag)).map(|(_, short, _)| *short)
    }

    /// Long words of the flags that are set.
    pub fn long(self) -> impl Iterator<Item = &'static str> {
        TABLE.iter().filter(move |(flag, _, _)| self.contains(*flag)).map(|(_, _, long)| *long)
    }
}

impl std::ops::BitOr for ResponseFlags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Display for ResponseFlags {
    /// Short words with commas; `-` for none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("-");
        }
        for (i, word) in self.short().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            f.write_str(word)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_retry_limit_comes_before_the_attempts_flag() {
        let flags = ResponseFlags::UPSTREAM_CONNECTION_FAILURE | ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED;
        assert_eq!(flags.to_string(), "URX,UF");
    }

    #[test]
    fn no_flag_is_a_dash() {
        assert_eq!(ResponseFlags::NONE.to_string(), "-");
    }

    #[test]
    fn each_flag_has_its_own_bit_and_word() {
        for (flag, short, _) in TABLE {
            assert_eq!(ResponseFlags::from_short(short), Some(*flag));
        }
    }
}
