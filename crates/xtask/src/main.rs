//! `cargo xtask`: the project's one tool.
#[cfg(feature = "gen")]
mod r#gen;
fn main() -> anyhow::Result<()> {
    #[cfg(feature = "gen")]
    if let Some(root) = std::env::args().nth(2) {
        return r#gen::run(std::path::Path::new(&root));
    }
    Ok(())
}
