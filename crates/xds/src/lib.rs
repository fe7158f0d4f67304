//! (being written)
#[allow(missing_docs, clippy::all)]
pub mod r#gen { include!("gen/mod.rs"); }
