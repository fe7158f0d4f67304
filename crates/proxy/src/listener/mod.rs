//! Listeners: from an accepted connection to the filter chain that serves it.

pub mod http_inspector;
pub mod tls_inspector;
