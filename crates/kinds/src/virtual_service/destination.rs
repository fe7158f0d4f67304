//! Destinations and weights: where a rule sends requests, and in which shares.
//!
//! - Reads: `destination` of routes and mirrors, `weight` of routes.
//! - Rule: weights are shares of their sum, which need not be 100; a single destination's weight means nothing; destinations of weight 0 get nothing.
//! - Not here: cluster names and weighted clusters (`compile/src/route/`).

use lateen_base::{Code, Finding};
use lateen_istio_api::Destination;

use crate::check::{Check, is_dns_label};

/// Checks one destination at `path`.
pub fn validate(destination: &Destination, path: &str, check: &mut Check<'_>) {
    let host = &destination.host;
    let path_host = format!("{path}.host");
    if host == "*" {
        check.error(path_host, "\"*\" is no destination", "name one service");
    } else {
        check.wildcard_host(&path_host, host);
    }
    if !destination.subset.is_empty() && !is_dns_label(&destination.subset) {
        check.error(format!("{path}.subset"), format!("\"{}\" is no subset name", destination.subset), "use lower-case letters, digits and \"-\"");
    }
    if let Some(port) = &destination.port {
        check.port(&format!("{path}.port.number"), port.number);
    }
}

/// Checks the weights of several destinations at `path` (the list).
pub fn validate_weights(weights: &[i32], path: &str, check: &mut Check<'_>) {
    for (i, weight) in weights.iter().enumerate() {
        if *weight < 0 {
            check.error(format!("{path}[{i}].weight"), format!("weight {weight} is negative"), "use 0 or more");
        }
    }
    if weights.len() < 2 {
        return;
    }
    let sum: i64 = weights.iter().map(|weight| i64::from(*weight)).sum();
    if sum == 0 {
        check.error(format!("{path}[0].weight"), "the weights add up to 0, so no destination gets requests", "give at least one destination a weight above 0");
    } else if sum > i64::from(u32::MAX) {
        check.error(format!("{path}[0].weight"), format!("the weights add up to {sum}"), "use smaller weights");
    } else if sum != 100 {
        let message = format!("the weights add up to {sum}, not 100; each is taken as its share of {sum}");
        check.add(Finding::new(Code::WeightSum, message).with_path(format!("{path}[0].weight")).with_remedy("make them add up to 100 if you meant percentages"));
    }
}

/// The share each of several destinations gets, as written; `None` leaves the destination out.
#[must_use]
pub fn share(weight: i32, destinations: usize) -> Option<u32> {
    if destinations == 1 { Some(1) } else { u32::try_from(weight).ok().filter(|weight| *weight > 0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lateen_base::Findings;
    use lateen_mesh::Meta;

    fn codes(weights: &[i32]) -> Vec<Code> {
        let mut findings = Findings::new();
        validate_weights(weights, "spec.http[0].route", &mut Check::new(&Meta::default(), &mut findings));
        findings.into_iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn weights_of_zero_in_sum_are_refused() {
        assert_eq!(codes(&[0, 0]), [Code::InvalidValue]);
        assert_eq!(codes(&[0]), []);
    }

    #[test]
    fn weights_need_not_add_up_to_100() {
        assert_eq!(codes(&[1, 2]), [Code::WeightSum]);
        assert_eq!(codes(&[90, 10]), []);
    }

    #[test]
    fn a_single_destination_gets_everything() {
        assert_eq!(share(0, 1), Some(1));
        assert_eq!(share(0, 2), None);
    }
}
