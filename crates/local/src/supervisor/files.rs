//! The user's files: read at the start, and again whenever one of them changes.
//!
//! - Reads: the paths given to `up`, through `source::files`.
//! - Rule: files that are not in order change nothing: the findings are shown, and the last good objects stay.
//! - Rule: an object that was taken out of the files is deleted; objects applied by hand are not touched.
//! - Limits: after a change it waits [`QUIET`] for more, at most [`QUIET_MAX`], since editors write in several steps.

use super::Context;
use super::api::apply_all;
use lateen_base::Finding;
use lateen_store::Key;
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

const QUIET: Duration = Duration::from_millis(3);
const QUIET_MAX: Duration = Duration::from_millis(15);
/// Topic of the files' findings.
const TOPIC: &str = "files";

/// The files and what came from them.
pub(crate) struct Files {
    context: Arc<Context>,
    objects: BTreeSet<Key>,
}

impl Files {
    /// Reads the files for the first time and applies them.
    ///
    /// # Errors
    /// The findings, of which at least one is an error; nothing was applied then.
    pub(crate) fn load(context: &Arc<Context>) -> Result<Self, Vec<Finding>> {
        let mut files = Self { context: Arc::clone(context), objects: BTreeSet::new() };
        let (objects, findings) = files.read();
        if findings.iter().any(Finding::is_error) {
            return Err(findings);
        }
        let refused = files.apply(objects);
        if refused.is_empty() {
            context.findings.set(TOPIC, findings);
            Ok(files)
        } else {
            Err([refused, findings].concat())
        }
    }

    fn read(&self) -> (Vec<Value>, Vec<Finding>) {
        let options = &self.context.start.options;
        let load = lateen_source::load(&options.paths);
        (load.objects.into_iter().map(|loaded| loaded.object).collect(), load.findings)
    }

    fn apply(&mut self, objects: Vec<Value>) -> Vec<Finding> {
        let keys: BTreeSet<Key> = objects.iter().filter_map(Key::of).collect();
        let (_, refused) = apply_all(&self.context, objects);
        for gone in self.objects.difference(&keys) {
            // Somebody may have deleted it already.
            let _ = self.context.delete(gone);
        }
        self.objects = keys;
        refused
    }

    /// Reads the files again.
    fn reload(&mut self) {
        let (objects, mut findings) = self.read();
        if !findings.iter().any(Finding::is_error) {
            findings.extend(self.apply(objects));
        }
        self.context.findings.set(TOPIC, findings);
    }

    /// Watches the files until the supervisor ends.
    ///
    /// # Errors
    /// When the kernel cannot watch them (`fs.inotify.max_user_watches`).
    pub(crate) fn watch(mut self) -> notify::Result<()> {
        // One waiting notice is enough: everything is read anew anyway.
        let (sender, mut changes) = mpsc::channel::<()>(1);
        let files: Vec<PathBuf> = self.context.start.options.paths.clone();
        let mut watcher: RecommendedWatcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !event.kind.is_access() && event.paths.iter().any(|path| concerns(path))) {
                let _ = sender.try_send(());
            }
        })?;
        for path in &files {
            // A file is replaced by editors: its folder is what can be watched.
            let (folder, mode) = match path.is_dir() {
                true => (path.as_path(), RecursiveMode::Recursive),
                false => (path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")), RecursiveMode::NonRecursive),
            };
            watcher.watch(folder, mode)?;
        }
        tokio::spawn(async move {
            // Dropped with the task: it ends with the supervisor.
            let _watcher = watcher;
            while changes.recv().await.is_some() {
                let settled = async { while tokio::time::timeout(QUIET, changes.recv()).await.is_ok_and(|change| change.is_some()) {} };
                let _ = tokio::time::timeout(QUIET_MAX, settled).await;
                let reloaded = tokio::task::spawn_blocking(move || {
                    self.reload();
                    self
                });
                match reloaded.await {
                    Ok(files) => self = files,
                    Err(error) => {
                        eprintln!("reading the files: {error}; later changes are not seen");
                        return;
                    }
                }
            }
        });
        Ok(())
    }
}

/// Whether a change of this path may change objects: files of objects, and folders, which may have brought some.
fn concerns(path: &Path) -> bool {
    let hidden = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with('.'));
    !hidden && (lateen_source::files::is_object_file(path) || path.extension().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn editors_scratch_files_do_not_count() {
        assert!(concerns(Path::new("a/web.yaml")));
        assert!(concerns(Path::new("a/folder")));
        assert!(!concerns(Path::new("a/.web.yaml.swp")));
        assert!(!concerns(Path::new("a/web.yaml~")));
    }
}
