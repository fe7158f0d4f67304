//! The two wire forms of HTTP, brought to one: heads as `lateen-http1` keeps them, bodies as [`crate::http::body`] moves them.
//!
//! - Rule: what is malformed in one form never reaches the other.
//! - Not here: what a request means.

pub(crate) mod h1;
pub(crate) mod h2;
