//! The balancer of one cluster on one worker: lists by priority and health, and the policy over them.
//!
//! - Rule: built when endpoints change, refreshed when health changes, asked per request.
//! - Rule: a pick costs no allocation.
//! - Limits: least request with unequal weights draws by weight and compares load per weight; Envoy schedules instead.

use super::maglev::MaglevTable;
use super::priority::{LevelHealth, PriorityLoad, priority_loads};
use super::ring_hash::Ring;
use super::LbPolicy;
use crate::cluster::{Cluster, ClusterEndpoints, EndpointAddress, Health, LocalityMode};
use crate::trace::{Silent, Tracer};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

/// Chooses endpoints of one cluster.
#[derive(Debug)]
pub struct Balancer {
    policy: LbPolicy,
    locality: LocalityMode,
    panic_threshold: f64,
    fail_on_panic: bool,
    endpoints: Arc<ClusterEndpoints>,
    levels: Vec<Level>,
    loads: PriorityLoad,
    seed: u64,
}

/// What a pick depends on.
#[derive(Clone, Copy, Debug, Default)]
pub struct PickContext<'a> {
    /// A random draw.
    pub draw: u64,
    /// The request's hash, for consistent hashing. `None`: the draw is used.
    pub hash: Option<u64>,
    /// Endpoints to avoid, by index: those of earlier attempts.
    pub avoid: &'a [usize],
    /// How often another endpoint is drawn to avoid one of those.
    pub attempts_max: u32,
}

/// The outcome of a pick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picked {
    /// Index into [`ClusterEndpoints::endpoints`].
    pub index: usize,
    /// Its priority.
    pub priority: u32,
    /// Health was ignored.
    pub panic: bool,
}

/// An endpoint, or none: 503 `UH`.
pub type Pick = Option<Picked>;

/// The endpoints of one priority.
#[derive(Debug, Default)]
struct Level {
    healthy: Group,
    degraded: Group,
    all: Group,
}

/// A list of endpoints from which one is chosen.
#[derive(Debug, Default)]
struct Group {
    hosts: Vec<u32>,
    /// Sums of weights up to and including each host. Empty: all weights are equal.
    sums: Vec<u64>,
    /// Parts by locality with running sums of effective weight; empty: localities are ignored.
    localities: Vec<(u64, Group)>,
    cursor: usize,
    /// Weighted round robin: earliest deadline first.
    schedule: BinaryHeap<Reverse<(u64, u64, u32)>>,
    turn: u64,
    table: Table,
}

/// A consistent hashing table, built at the first pick.
#[derive(Debug, Default)]
enum Table {
    #[default]
    Unbuilt,
    Ring(Ring),
    Maglev(MaglevTable),
}

/// A step of the schedule for weight 1; weights divide it.
const STEP: u64 = 1 << 32;

impl Balancer {
    /// A balancer for `endpoints` of `cluster`. `seed` decides where round robin starts.
    #[must_use]
    pub fn new(cluster: &Cluster, endpoints: Arc<ClusterEndpoints>, seed: u64) -> Self {
        let mut balancer = Self {
            policy: cluster.lb,
            locality: cluster.locality,
            panic_threshold: cluster.panic_threshold,
            fail_on_panic: cluster.fail_traffic_on_panic,
            endpoints,
            levels: Vec::new(),
            loads: PriorityLoad::default(),
            seed,
        };
        balancer.refresh(|_| false);
        balancer
    }

    /// The endpoints chosen from.
    #[must_use]
    pub fn endpoints(&self) -> &Arc<ClusterEndpoints> {
        &self.endpoints
    }

    /// Sorts endpoints by health again; `ejected` says which are out. To be called whenever an ejection starts or ends.
    pub fn refresh(&mut self, ejected: impl Fn(usize) -> bool) {
        let endpoints = Arc::clone(&self.endpoints);
        let health = |index: usize| match endpoints.endpoints.get(index).map(|e| e.health) {
            _ if ejected(index) => Health::Unhealthy,
            Some(health) => health,
            None => Health::Unhealthy,
        };
        let mut counts = Vec::with_capacity(endpoints.priorities.len());
        self.levels.clear();
        for priority in &endpoints.priorities {
            let keep = |wanted: Option<Health>| {
                let parts = priority.localities.iter().map(|group| {
                    let hosts: Vec<u32> = group
                        .range
                        .clone()
                        .filter(|i| wanted.is_none_or(|w| health(*i) == w))
                        .filter_map(|i| u32::try_from(i).ok())
                        .collect();
                    (locality_weight(group.weight, hosts.len(), group.range.len(), endpoints.overprovisioning_factor), hosts)
                });
                Group::of(parts.collect(), &endpoints, self.locality, self.seed)
            };
            let level = Level { healthy: keep(Some(Health::Healthy)), degraded: keep(Some(Health::Degraded)), all: keep(None) };
            let count = |group: &Group| u32::try_from(group.hosts.len()).unwrap_or(u32::MAX);
            counts.push(LevelHealth { total: count(&level.all), healthy: count(&level.healthy), degraded: count(&level.degraded) });
            self.levels.push(level);
        }
        self.loads = priority_loads(&counts, endpoints.overprovisioning_factor, self.panic_threshold);
    }

    /// Chooses an endpoint; `active` tells how many requests each has in flight.
    pub fn pick(&mut self, cx: &PickContext<'_>, active: impl Fn(usize) -> u32) -> Pick {
        self.pick_traced(cx, active, &mut Silent)
    }

    /// The same, telling `tracer` how traffic is spread and what was passed over.
    pub fn pick_traced(&mut self, cx: &PickContext<'_>, active: impl Fn(usize) -> u32, tracer: &mut impl Tracer) -> Pick {
        let mut draw = cx.draw;
        let mut last = None;
        tracer.note(|| format!("{:?} over {} endpoint(s); percent by priority {:?}", self.policy, self.endpoints.endpoints.len(), self.loads.healthy));
        for attempt in 0..=cx.attempts_max {
            last = self.pick_once(cx.hash, draw, attempt, &active);
            tracer.note(|| self.describe(last, &active));
            match last {
                Some(picked) if cx.avoid.contains(&picked.index) => draw = next(draw),
                Some(_) | None => return last,
            }
            tracer.note(|| "an earlier attempt went there; another is drawn".to_owned());
        }
        last
    }

    fn describe(&self, pick: Pick, active: &impl Fn(usize) -> u32) -> String {
        let Some(picked) = pick else { return "no healthy endpoint".to_owned() };
        let address = u32::try_from(picked.index).map(|at| hash_key(&self.endpoints, at)).unwrap_or_default();
        let panic = if picked.panic { ", health ignored (panic)" } else { "" };
        format!("{address} (priority {}, {} active{panic})", picked.priority, active(picked.index))
    }

    fn pick_once(&mut self, hash: Option<u64>, draw: u64, attempt: u32, active: &impl Fn(usize) -> u32) -> Pick {
        let (at, degraded) = self.level(hash.unwrap_or(draw))?;
        let panic = self.loads.panic.get(at).copied().unwrap_or(false);
        if panic && self.fail_on_panic {
            return None;
        }
        let level = self.levels.get_mut(at)?;
        let group = match (panic, degraded) {
            (true, _) => &mut level.all,
            (false, true) => &mut level.degraded,
            (false, false) => &mut level.healthy,
        };
        let index = group.pick(self.policy, &self.endpoints, Draws { hash: hash.unwrap_or(draw), draw: next(draw), attempt }, active)?;
        Some(Picked { index, priority: u32::try_from(at).unwrap_or(0), panic })
    }

    /// The priority for a draw, and whether its degraded endpoints are meant.
    fn level(&self, draw: u64) -> Option<(usize, bool)> {
        if let [100, ..] = self.loads.healthy.as_slice() {
            return Some((0, false));
        }
        let mut left = u32::try_from(draw % 100).unwrap_or(0);
        for (list, degraded) in [(&self.loads.healthy, false), (&self.loads.degraded, true)] {
            for (at, share) in list.iter().enumerate() {
                match left.checked_sub(*share) {
                    Some(rest) => left = rest,
                    None => return Some((at, degraded)),
                }
            }
        }
        None
    }
}

/// The next number of a sequence that starts at a draw (SplitMix64).
fn next(draw: u64) -> u64 {
    let z = draw.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A locality's weight, cut by its health as Envoy does.
fn locality_weight(weight: Option<u32>, usable: usize, total: usize, overprovisioning: u32) -> u64 {
    if total == 0 {
        return 0;
    }
    let available = (u64::from(overprovisioning) * usable as u64 / total as u64).min(100);
    u64::from(weight.unwrap_or(0)) * available
}

struct Draws {
    hash: u64,
    draw: u64,
    attempt: u32,
}

impl Group {
    fn of(parts: Vec<(u64, Vec<u32>)>, endpoints: &ClusterEndpoints, mode: LocalityMode, seed: u64) -> Self {
        let mut localities = Vec::new();
        if mode == LocalityMode::Weighted && parts.iter().any(|(weight, _)| *weight > 0) {
            let mut sum = 0;
            for (weight, hosts) in parts.iter().filter(|(weight, hosts)| *weight > 0 && !hosts.is_empty()) {
                sum += weight;
                localities.push((sum, Self::flat(hosts.clone(), endpoints, seed)));
            }
        }
        let hosts = parts.into_iter().flat_map(|(_, hosts)| hosts).collect();
        Self { localities, ..Self::flat(hosts, endpoints, seed) }
    }

    fn flat(hosts: Vec<u32>, endpoints: &ClusterEndpoints, seed: u64) -> Self {
        let weights: Vec<u32> = hosts.iter().map(|i| weight_of(endpoints, *i)).collect();
        let mut group = Self { cursor: start(seed, hosts.len()), hosts, ..Self::default() };
        if weights.windows(2).any(|pair| pair.first() != pair.last()) {
            let mut sum = 0;
            group.sums = weights.iter().map(|w| { sum += u64::from(*w); sum }).collect();
            for (at, weight) in (0u32..).zip(&weights) {
                group.schedule.push(Reverse((STEP / u64::from(*weight), u64::from(at), at)));
            }
            group.turn = weights.len() as u64;
        }
        group
    }

    fn pick(&mut self, policy: LbPolicy, endpoints: &ClusterEndpoints, draws: Draws, active: &impl Fn(usize) -> u32) -> Option<usize> {
        let consistent = matches!(policy, LbPolicy::RingHash { .. } | LbPolicy::Maglev { .. });
        if let (Some((sum, _)), false) = (self.localities.last(), consistent) {
            let wanted = draws.draw % sum;
            let at = self.localities.partition_point(|(upto, _)| *upto <= wanted);
            let draws = Draws { draw: next(draws.draw), ..draws };
            return self.localities.get_mut(at)?.1.pick(policy, endpoints, draws, active);
        }
        let host = match policy {
            _ if self.hosts.is_empty() => return None,
            LbPolicy::RoundRobin => self.in_turn(endpoints)?,
            LbPolicy::Random => self.at_random(draws.draw)?,
            LbPolicy::LeastRequest { choice_count } => self.least_busy(choice_count, draws.draw, endpoints, active)?,
            LbPolicy::RingHash { .. } | LbPolicy::Maglev { .. } => return self.by_hash(policy, endpoints, &draws),
            LbPolicy::ClusterProvided => return None,
        };
        usize::try_from(host).ok()
    }

    fn in_turn(&mut self, endpoints: &ClusterEndpoints) -> Option<u32> {
        if self.sums.is_empty() {
            let at = self.cursor;
            self.cursor = if at + 1 >= self.hosts.len() { 0 } else { at + 1 };
            return self.hosts.get(at).copied();
        }
        let Reverse((deadline, _, at)) = self.schedule.pop()?;
        let host = self.hosts.get(usize::try_from(at).ok()?).copied()?;
        let again = deadline.saturating_add(STEP / u64::from(weight_of(endpoints, host)));
        self.turn += 1;
        self.schedule.push(Reverse((again, self.turn, at)));
        Some(host)
    }

    fn at_random(&self, draw: u64) -> Option<u32> {
        self.hosts.get(self.random_position(draw)).copied()
    }

    fn random_position(&self, draw: u64) -> usize {
        match self.sums.last() {
            Some(sum) => {
                let wanted = draw % sum;
                self.sums.partition_point(|upto| *upto <= wanted)
            }
            None => usize::try_from(draw % self.hosts.len().max(1) as u64).unwrap_or(0),
        }
    }

    fn least_busy(&self, choices: u32, draw: u64, endpoints: &ClusterEndpoints, active: &impl Fn(usize) -> u32) -> Option<u32> {
        let load = |host: u32| {
            let requests = u64::from(active(usize::try_from(host).unwrap_or(usize::MAX)));
            if self.sums.is_empty() { requests } else { (requests + 1) * STEP / u64::from(weight_of(endpoints, host)) }
        };
        let first = self.random_position(draw);
        let mut best = self.hosts.get(first).copied()?;
        let mut least = load(best);
        let (mut draw, count) = (draw, self.hosts.len());
        for _ in 1..choices.max(2) {
            if least == 0 || count < 2 {
                break;
            }
            draw = next(draw);
            // Among equals another endpoint than the first is drawn, so that of two the less busy always wins.
            let at = if self.sums.is_empty() {
                (first + 1 + usize::try_from(draw % (count as u64 - 1)).unwrap_or(0)) % count
            } else {
                self.random_position(draw)
            };
            let other = self.hosts.get(at).copied()?;
            let busy = load(other);
            if busy < least {
                (best, least) = (other, busy);
            }
        }
        Some(best)
    }

    fn by_hash(&mut self, policy: LbPolicy, endpoints: &ClusterEndpoints, draws: &Draws) -> Option<usize> {
        if matches!(self.table, Table::Unbuilt) {
            self.table = build_table(policy, &self.hosts, endpoints);
        }
        let found = match &self.table {
            Table::Ring(ring) => ring.pick(draws.hash, usize::try_from(draws.attempt).unwrap_or(0)),
            Table::Maglev(table) => table.pick(draws.hash, u64::from(draws.attempt)),
            Table::Unbuilt => None,
        };
        found.and_then(|host| usize::try_from(host).ok())
    }
}

fn build_table(policy: LbPolicy, hosts: &[u32], endpoints: &ClusterEndpoints) -> Table {
    let total: u64 = hosts.iter().map(|i| u64::from(weight_of(endpoints, *i))).sum();
    #[expect(clippy::cast_precision_loss, reason = "sums of weights are far below 2^52")]
    let share = |index: u32| f64::from(weight_of(endpoints, index)) / total.max(1) as f64;
    let keyed: Vec<(String, f64, u32)> = hosts.iter().map(|i| (hash_key(endpoints, *i), share(*i), *i)).collect();
    match policy {
        LbPolicy::RingHash { minimum_size, maximum_size, murmur } => Table::Ring(Ring::new(&keyed, minimum_size, maximum_size, murmur)),
        LbPolicy::Maglev { table_size } => Table::Maglev(MaglevTable::new(&keyed, table_size)),
        LbPolicy::RoundRobin | LbPolicy::LeastRequest { .. } | LbPolicy::Random | LbPolicy::ClusterProvided => Table::Unbuilt,
    }
}

fn hash_key(endpoints: &ClusterEndpoints, index: u32) -> String {
    match usize::try_from(index).ok().and_then(|i| endpoints.endpoints.get(i)).map(|e| &e.address) {
        Some(EndpointAddress::Socket(address)) => address.to_string(),
        Some(EndpointAddress::Dns(host, port)) => format!("{host}:{port}"),
        Some(EndpointAddress::Pipe(path)) => path.to_string(),
        None => String::new(),
    }
}

fn weight_of(endpoints: &ClusterEndpoints, index: u32) -> u32 {
    usize::try_from(index).ok().and_then(|i| endpoints.endpoints.get(i)).map_or(1, |e| e.weight.max(1))
}

fn start(seed: u64, len: usize) -> usize {
    usize::try_from(seed.checked_rem(len as u64).unwrap_or(0)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Endpoint, Locality, LocalityGroup, PriorityLevel};

    fn endpoints(levels: &[&[u32]]) -> Arc<ClusterEndpoints> {
        let mut all = ClusterEndpoints { overprovisioning_factor: 140, ..ClusterEndpoints::default() };
        for (priority, weights) in levels.iter().enumerate() {
            let from = all.endpoints.len();
            for weight in *weights {
                let port = u16::try_from(1000 + all.endpoints.len()).unwrap();
                let mut endpoint = Endpoint::at(([10, 0, 0, 1], port).into());
                endpoint.weight = *weight;
                endpoint.priority = u32::try_from(priority).unwrap();
                all.endpoints.push(endpoint);
            }
            let group = LocalityGroup { locality: Locality::default(), weight: Some(1), range: from..all.endpoints.len() };
            all.priorities.push(PriorityLevel { localities: vec![group] });
        }
        Arc::new(all)
    }

    fn balancer(policy: LbPolicy, levels: &[&[u32]]) -> Balancer {
        let mut cluster = crate::cluster::Cluster::bare("c");
        cluster.lb = policy;
        cluster.panic_threshold = 0.0;
        Balancer::new(&cluster, endpoints(levels), 7)
    }

    fn counts(balancer: &mut Balancer, picks: u64, hosts: usize, active: impl Fn(usize) -> u32) -> Vec<usize> {
        let mut got = vec![0; hosts];
        for draw in 0..picks {
            let cx = PickContext { draw: next(draw), ..PickContext::default() };
            got[balancer.pick(&cx, &active).unwrap().index] += 1;
        }
        got
    }

    #[test]
    fn round_robin_is_exact() {
        assert_eq!(counts(&mut balancer(LbPolicy::RoundRobin, &[&[1, 1, 1]]), 300, 3, |_| 0), [100, 100, 100]);
    }

    #[test]
    fn weighted_round_robin_is_exact() {
        assert_eq!(counts(&mut balancer(LbPolicy::RoundRobin, &[&[1, 2, 3]]), 600, 3, |_| 0), [100, 200, 300]);
    }

    #[test]
    fn random_follows_weights() {
        let got = counts(&mut balancer(LbPolicy::Random, &[&[1, 3]]), 4000, 2, |_| 0);
        assert!((890..=1110).contains(&got[0]), "{got:?}");
    }

    #[test]
    fn the_busier_of_two_is_never_picked() {
        let got = counts(&mut balancer(LbPolicy::LeastRequest { choice_count: 2 }, &[&[1, 1]]), 500, 2, |i| if i == 0 { 9 } else { 1 });
        assert_eq!(got, [0, 500]);
    }

    #[test]
    fn an_ejected_endpoint_gets_nothing() {
        let mut balancer = balancer(LbPolicy::RoundRobin, &[&[1, 1, 1]]);
        balancer.refresh(|i| i == 1);
        assert_eq!(counts(&mut balancer, 100, 3, |_| 0), [50, 0, 50]);
    }

    #[test]
    fn all_ejected_without_panic_gives_none() {
        let mut balancer = balancer(LbPolicy::RoundRobin, &[&[1, 1]]);
        balancer.refresh(|_| true);
        assert_eq!(balancer.pick(&PickContext::default(), |_| 0), None);
    }

    #[test]
    fn a_dead_priority_fails_over() {
        let mut balancer = balancer(LbPolicy::RoundRobin, &[&[1, 1], &[1]]);
        balancer.refresh(|i| i < 2);
        assert_eq!(balancer.pick(&PickContext::default(), |_| 0).map(|p| (p.index, p.priority)), Some((2, 1)));
    }

    #[test]
    fn an_earlier_endpoint_is_avoided_when_another_exists() {
        let mut balancer = balancer(LbPolicy::RoundRobin, &[&[1, 1]]);
        for draw in 0..50 {
            let cx = PickContext { draw, avoid: &[0], attempts_max: 5, ..PickContext::default() };
            assert_eq!(balancer.pick(&cx, |_| 0).map(|p| p.index), Some(1));
        }
    }

    #[test]
    fn a_hash_keeps_its_endpoint_under_ring_and_maglev() {
        let ring = LbPolicy::RingHash { minimum_size: 1024, maximum_size: 1 << 23, murmur: false };
        for policy in [ring, LbPolicy::Maglev { table_size: 65_537 }] {
            let mut balancer = balancer(policy, &[&[1, 1, 1]]);
            let pick = |b: &mut Balancer, draw| b.pick(&PickContext { draw, hash: Some(42), ..PickContext::default() }, |_| 0);
            assert_eq!(pick(&mut balancer, 1), pick(&mut balancer, 2));
        }
    }

    #[test]
    fn a_trace_names_what_was_passed_over() {
        let mut trace = crate::trace::Trace::default();
        let cx = PickContext { avoid: &[0], attempts_max: 1, ..PickContext::default() };
        let mut balancer = balancer(LbPolicy::RoundRobin, &[&[1, 1]]);
        balancer.seed = 0;
        balancer.refresh(|_| false);
        balancer.pick_traced(&cx, |_| 3, &mut trace);
        assert_eq!(trace.steps[1..], ["10.0.0.1:1000 (priority 0, 3 active)", "an earlier attempt went there; another is drawn", "10.0.0.1:1001 (priority 0, 3 active)"]);
    }

    #[test]
    fn no_endpoints_give_none() {
        assert_eq!(balancer(LbPolicy::RoundRobin, &[&[]]).pick(&PickContext::default(), |_| 0), None);
    }
}
