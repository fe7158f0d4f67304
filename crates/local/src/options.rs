//! What `up` is told, and what travels from the host stage to the supervisor.
//!
//! - Rule: values only; `cli` reads flags and environment, nothing here does.
//! - Rule: functions cannot travel between processes, so [`Hooks`] are given to [`crate::stage::dispatch`] in every process anew.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Options of [`crate::up`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UpOptions {
    /// Name of the mesh; part of messages only.
    pub mesh: String,
    /// Folder of this mesh: sockets, keys, logs. Made if missing. Two meshes need two folders.
    pub state_dir: PathBuf,
    /// Files and folders with YAML.
    pub paths: Vec<PathBuf>,
    /// Namespace of objects that name none.
    pub namespace: String,
    /// Port on 127.0.0.1 for the ingress gateway; 0 chooses a free one.
    pub ingress: u16,
    /// Port on 127.0.0.1 for the gateway's TLS port; 0 chooses a free one, `None` takes the default port if it is free.
    pub ingress_tls: Option<u16>,
    /// Port on 127.0.0.1 for the live page; 0 chooses a free one.
    pub dashboard: u16,
    /// Return when the mesh is ready and leave it running.
    pub detach: bool,
    /// Apply later changes of the files.
    pub watch: bool,
    /// Worker threads of each proxy; 0 lets the proxy choose.
    pub concurrency: u32,
    /// Real Envoy for pods that ask for it by `sidecar.istio.io/proxyImage`. Given to their sidecars as `LATEEN_ENVOY`.
    pub envoy: Option<PathBuf>,
    /// Lifetime of workload certificates as a Go duration; empty is the default. Given to sidecars as `SECRET_TTL` and to the control
    /// plane as `--cert-ttl`.
    pub cert_ttl: String,
    /// The caller's environment; containers inherit `PATH`, `HOME`, `LANG`, `TERM`, `TMPDIR` and `LATEEN_LOG` from it.
    pub environment: BTreeMap<String, String>,
}

/// Image, `command` and `args` of a container to the arguments of `lateen app`; `None` where there is no stand-in.
pub type ImageLookup = fn(&str, &[String], &[String]) -> Option<Vec<String>>;

/// What the other crates of the shell do for this one. The same in every process of one binary.
#[derive(Clone, Copy)]
pub struct Hooks {
    /// The arguments of `lateen app` that stand in for an image with this command and these arguments: `apps::lookup`.
    pub image: ImageLookup,
    /// Names by which pods find the built-in programs at the end of their `PATH`; each is a link to this binary.
    pub programs: &'static [&'static str],
}

impl Default for Hooks {
    fn default() -> Self {
        Self { image: |_, _, _| None, programs: &[] }
    }
}
