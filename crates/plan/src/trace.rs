//! Traces of decisions: what was looked at, and why it did or did not match.
//!
//! - Rule: a decision is written once, generic over its tracer; with [`Silent`] the notes compile away.
//! - Not here: showing traces (`cli` and `dashboard`).

/// Listens to a decision.
pub trait Tracer {
    /// One step, in words; `say` runs only when somebody listens.
    fn note(&mut self, say: impl FnOnce() -> String);
}

/// Listens to nothing: the proxy's hot path.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Tracer for Silent {
    #[inline]
    fn note(&mut self, _say: impl FnOnce() -> String) {}
}

/// Every step of a decision, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// The steps.
    pub steps: Vec<String>,
}

impl Tracer for Trace {
    fn note(&mut self, say: impl FnOnce() -> String) {
        self.steps.push(say());
    }
}
