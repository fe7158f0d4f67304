//! Load balancing: which endpoint gets the next request.
//!
//! - Reads: `config.cluster.v3.Cluster.{lb_policy, lb_config}` (Envoy), written from `DestinationRule…loadBalancer`.
//! - Twin: `kinds/src/destination_rule/load_balancer.rs`.
//! - Rule: pure; the state belongs to one worker, random numbers are drawn by the caller.
//! - Rule: what depends on health is worked out when health changes ([`Balancer::refresh`]), not per pick.
//! - Not here: ejection (`outlier`), connections (`proxy/src/cluster`).

mod balancer;
mod maglev;
mod priority;
mod ring_hash;

pub use balancer::{Balancer, Pick, PickContext, Picked};
pub use maglev::MaglevTable;
pub use priority::{PriorityLoad, priority_loads};
pub use ring_hash::Ring;

/// How an endpoint is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LbPolicy {
    /// In turn, by weight.
    #[default]
    RoundRobin,
    /// The least busy of `choice_count` drawn at random.
    LeastRequest {
        /// Endpoints drawn; at least 2.
        choice_count: u32,
    },
    /// At random, by weight.
    Random,
    /// On a hash ring.
    RingHash {
        /// Least number of entries.
        minimum_size: u64,
        /// Largest number of entries.
        maximum_size: u64,
        /// MurmurHash2 instead of XXH64.
        murmur: bool,
    },
    /// By Maglev's table.
    Maglev {
        /// Entries; a prime.
        table_size: u64,
    },
    /// The cluster says so: ORIGINAL_DST.
    ClusterProvided,
}

/// Envoy's defaults for ring hash.
pub const RING_SIZE_MIN: u64 = 1024;
/// Envoy's ceiling for ring hash.
pub const RING_SIZE_MAX: u64 = 8 * 1024 * 1024;
/// Envoy's Maglev table.
pub const MAGLEV_SIZE: u64 = 65_537;
/// Envoy's ceiling for the Maglev table.
pub const MAGLEV_SIZE_MAX: u64 = 5_000_011;
