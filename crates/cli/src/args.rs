//! The command line: every subcommand with its flags and help.
//!
//! - Rule: a flag that `istioctl`, `kubectl` or `envoy` has keeps its name and meaning.
//! - Not here: what a subcommand does (`commands/`), defaults that come from the environment (`environment.rs`).

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use lateen_base::ports;

/// A service mesh with Istio's API on one machine.
#[derive(Parser)]
#[command(
    name = "lateen",
    version,
    about,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Start here:\n  lateen up examples/mini-mesh     a mesh of three services, with a page on http://127.0.0.1:8090\n  lateen ps                        its pods\n  lateen exec deploy/frontend -- curl -s http://backend/\n  lateen analyze DIR               what is wrong with the YAML in DIR"
)]
pub(crate) struct Cli {
    /// Mesh to talk to, where several run.
    #[arg(long = "name", global = true, value_name = "MESH", default_value = "default")]
    pub(crate) mesh: String,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// All subcommands.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Start a mesh from Kubernetes and Istio YAML, and keep it in step with the files.
    #[command(after_help = "Examples:\n  lateen up examples/mini-mesh\n  lateen up examples/mini-mesh examples/payments --ingress 8081\n  lateen up --detach examples/mini-mesh && lateen ps && lateen down")]
    Up(Up),
    /// Stop the mesh and everything in it.
    Down(Down),
    /// List pods: ready containers, status, restarts, age, address.
    Ps(Ps),
    /// Print a container's output.
    #[command(after_help = "Examples:\n  lateen logs deploy/frontend\n  lateen logs -f frontend -c istio-proxy --tail 20")]
    Logs(Logs),
    /// Run a program inside a pod's network, with its files and host name.
    #[command(after_help = "Examples:\n  lateen exec deploy/frontend -- curl -s http://backend/\n  lateen exec frontend -c istio-proxy -- pilot-agent request GET stats")]
    Exec(Exec),
    /// Create or change objects from files.
    #[command(after_help = "Examples:\n  lateen apply -f examples/payments\n  cat policy.yaml | lateen apply -f -")]
    Apply(Apply),
    /// Delete objects, by file or by kind and name.
    #[command(after_help = "Examples:\n  lateen delete -f canary.yaml\n  lateen delete virtualservice backend\n  lateen delete pod/frontend-5d9c7b6f8-abcde")]
    Delete(Delete),
    /// Show objects.
    #[command(after_help = "Examples:\n  lateen get pods\n  lateen get vs backend -o yaml\n  lateen get svc -A")]
    Get(Get),
    /// Check YAML, or the running mesh, for mistakes. Exit code 79 where there are errors.
    #[command(after_help = "Examples:\n  lateen analyze examples/tutorial-2\n  lateen analyze            # the running mesh")]
    Analyze(Analyze),
    /// Check files against the schemas alone.
    Validate(Validate),
    /// What every proxy has and has not acknowledged.
    #[command(visible_alias = "proxy-state")]
    ProxyStatus(ProxyStatus),
    /// What one proxy was told: clusters, listeners, routes, endpoints, secrets.
    #[command(visible_alias = "pc", after_help = "Examples:\n  lateen proxy-config clusters deploy/frontend\n  lateen pc routes frontend --object-name 80 -o json")]
    ProxyConfig(ProxyConfig),
    /// Print the address of the live page, or open it.
    #[command(visible_alias = "dash")]
    Dashboard(Dashboard),
    /// Print versions.
    Version(Version),
    /// Print shell completions.
    Completion {
        /// Shell to write for.
        shell: clap_complete::Shell,
    },
    /// Run the proxy alone from an Envoy bootstrap file.
    #[command(after_help = "Example:\n  lateen proxy -c bootstrap.yaml --concurrency 2")]
    Proxy(Proxy),
    /// Run a sidecar: agent and proxy of one pod.
    #[command(hide = true)]
    Sidecar(Sidecar),
    /// Run the control plane.
    #[command(hide = true)]
    Discovery(Discovery),
    /// Run one of the built-in programs that stand in for tutorial images.
    #[command(disable_help_flag = true)]
    App {
        /// Program and its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        argv: Vec<String>,
    },
}

/// Flags of `up`.
#[derive(Args)]
pub(crate) struct Up {
    /// Files or folders with Kubernetes and Istio YAML.
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Return once the mesh is ready and leave it running.
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Port on 127.0.0.1 for the ingress gateway; 0 chooses a free one.
    #[arg(long, value_name = "PORT", default_value_t = ports::INGRESS_DEFAULT)]
    pub(crate) ingress: u16,
    /// Port on 127.0.0.1 for the ingress gateway's TLS port; 0 chooses a free one.
    #[arg(long, value_name = "PORT")]
    pub(crate) ingress_tls: Option<u16>,
    /// Port on 127.0.0.1 for the live page; 0 chooses a free one.
    #[arg(long, value_name = "PORT", default_value_t = ports::DASHBOARD_DEFAULT)]
    pub(crate) dashboard: u16,
    /// Real Envoy binary for pods whose annotation `sidecar.istio.io/proxyImage` asks for it.
    #[arg(long, value_name = "PATH")]
    pub(crate) envoy: Option<PathBuf>,
    /// Lifetime of workload certificates, such as 24h or 10s.
    #[arg(long, value_name = "DURATION")]
    pub(crate) cert_ttl: Option<String>,
    /// Threads of each sidecar.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) concurrency: u32,
    /// Do not apply later changes of the files.
    #[arg(long)]
    pub(crate) no_watch: bool,
    /// Namespace of objects that name none.
    #[arg(short, long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
}

/// Flags of `down`.
#[derive(Args)]
pub(crate) struct Down {}

/// Flags of `ps`.
#[derive(Args)]
pub(crate) struct Ps {
    /// Only this namespace.
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
    /// Format.
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<Format>,
}

/// Flags of `logs`.
#[derive(Args)]
pub(crate) struct Logs {
    /// Pod, `deploy/NAME`, or a Deployment's name.
    pub(crate) pod: String,
    /// Namespace.
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
    /// Container; the application's where there is none.
    #[arg(short, long)]
    pub(crate) container: Option<String>,
    /// Go on printing.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Last lines only.
    #[arg(long, value_name = "LINES")]
    pub(crate) tail: Option<u64>,
    /// The output before the last restart.
    #[arg(short, long)]
    pub(crate) previous: bool,
}

/// Flags of `exec`.
#[derive(Args)]
pub(crate) struct Exec {
    /// Pod, `deploy/NAME`, or a Deployment's name.
    pub(crate) pod: String,
    /// Namespace.
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
    /// Container; the application's where there is none.
    #[arg(short, long)]
    pub(crate) container: Option<String>,
    /// Accepted as kubectl has it; standard input is always passed on.
    #[arg(short = 'i', long, hide = true)]
    pub(crate) stdin: bool,
    /// Accepted as kubectl has it; a terminal is passed on as it is.
    #[arg(short = 't', long, hide = true)]
    pub(crate) tty: bool,
    /// Program and arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

/// Flags of `apply`.
#[derive(Args)]
pub(crate) struct Apply {
    /// File, folder, or `-` for standard input.
    #[arg(short, long = "filename", required = true, value_name = "PATH")]
    pub(crate) files: Vec<PathBuf>,
    /// Namespace of objects that name none.
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
}

/// Flags of `delete`.
#[derive(Args)]
pub(crate) struct Delete {
    /// File, folder, or `-` for standard input.
    #[arg(short, long = "filename", value_name = "PATH")]
    pub(crate) files: Vec<PathBuf>,
    /// Namespace.
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
    /// `KIND NAME...` or `KIND/NAME...`.
    #[arg(required_unless_present = "files")]
    pub(crate) objects: Vec<String>,
    /// Do not fail where an object does not exist.
    #[arg(long)]
    pub(crate) ignore_not_found: bool,
}

/// Flags of `get`.
#[derive(Args)]
pub(crate) struct Get {
    /// Kind, plural, or short name.
    pub(crate) kind: String,
    /// Names; all where there are none.
    pub(crate) names: Vec<String>,
    /// Namespace.
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
    /// Every namespace.
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
    /// Only objects with these labels: `app=backend,version!=v2`.
    #[arg(short = 'l', long)]
    pub(crate) selector: Option<String>,
    /// Format.
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<Format>,
    /// Also show labels.
    #[arg(long)]
    pub(crate) show_labels: bool,
}

/// How to print.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// One JSON document.
    Json,
    /// YAML.
    Yaml,
    /// Kind and name alone.
    Name,
    /// A table.
    Wide,
    /// A table, as istioctl calls it.
    Short,
}

/// Flags of `analyze`.
#[derive(Args)]
pub(crate) struct Analyze {
    /// Files or folders; without them the running mesh.
    pub(crate) paths: Vec<PathBuf>,
    /// Namespace of objects that name none.
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
    /// Every namespace.
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
    /// Look at the running mesh besides the files.
    #[arg(short = 'k', long)]
    pub(crate) use_kube: bool,
    /// Leave out `CODE=OBJECT`, such as `IST0118=*` or `IST0102=Namespace default`.
    #[arg(short = 'S', long, value_name = "CODE=OBJECT")]
    pub(crate) suppress: Vec<String>,
    /// Format.
    #[arg(short, long, value_enum, default_value = "log")]
    pub(crate) output: AnalyzeFormat,
    /// Lowest severity that fails the command.
    #[arg(long, value_enum, default_value = "error", ignore_case = true)]
    pub(crate) failure_threshold: Threshold,
    /// Lowest severity that is shown.
    #[arg(long, value_enum, default_value = "info", ignore_case = true)]
    pub(crate) output_threshold: Threshold,
    /// Accepted as istioctl has it; folders are always read with their subfolders.
    #[arg(short = 'R', long, hide = true)]
    pub(crate) recursive: bool,
    /// Accepted as istioctl has it; colour follows the terminal.
    #[arg(long, hide = true, default_missing_value = "true", num_args = 0..=1)]
    pub(crate) color: Option<bool>,
}

/// Format of `analyze`.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AnalyzeFormat {
    /// One line a message, with the place in the file shown.
    Log,
    /// A JSON list.
    Json,
    /// YAML.
    Yaml,
}

/// A severity on the command line.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Threshold {
    /// Worth knowing.
    Info,
    /// Probably not what was meant.
    Warning,
    /// Refused, or certain to fail.
    Error,
}

/// Flags of `validate`.
#[derive(Args)]
pub(crate) struct Validate {
    /// File, folder, or `-` for standard input.
    #[arg(short, long = "filename", required = true, value_name = "PATH")]
    pub(crate) files: Vec<PathBuf>,
}

/// Flags of `proxy-status`.
#[derive(Args)]
pub(crate) struct ProxyStatus {
    /// Only this pod.
    pub(crate) pod: Option<String>,
    /// Namespace.
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
    /// One column per type with its state; 0 for the names of the types alone.
    #[arg(short, long, default_value_t = 1)]
    pub(crate) verbosity: u8,
    /// Format.
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<Format>,
}

/// Flags of `proxy-config`.
#[derive(Args)]
pub(crate) struct ProxyConfig {
    /// What to show.
    #[arg(value_enum)]
    pub(crate) what: ConfigKind,
    /// Pod, `deploy/NAME`, or a Deployment's name.
    #[arg(required_unless_present = "file")]
    pub(crate) pod: Option<String>,
    /// Namespace.
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
    /// A saved `config_dump` instead of a pod.
    #[arg(short, long)]
    pub(crate) file: Option<PathBuf>,
    /// Format.
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<Format>,
    /// Clusters and endpoints of this host only.
    #[arg(long)]
    pub(crate) fqdn: Option<String>,
    /// This port only.
    #[arg(long)]
    pub(crate) port: Option<u16>,
    /// This subset only.
    #[arg(long)]
    pub(crate) subset: Option<String>,
    /// `inbound` or `outbound` only.
    #[arg(long)]
    pub(crate) direction: Option<String>,
    /// Listeners or endpoints on this address only.
    #[arg(long)]
    pub(crate) address: Option<String>,
    /// Routes or listeners of this name only; istioctl's `--name`, which here names the mesh.
    #[arg(long = "object-name", value_name = "NAME")]
    pub(crate) object_name: Option<String>,
    /// Endpoints of this cluster only.
    #[arg(long)]
    pub(crate) cluster: Option<String>,
    /// Endpoints in this state only.
    #[arg(long)]
    pub(crate) status: Option<String>,
}

/// Kinds of `proxy-config`.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ConfigKind {
    /// Everything.
    All,
    /// Upstream clusters.
    #[value(alias = "clusters", alias = "c")]
    Cluster,
    /// Listeners and their filter chains.
    #[value(alias = "listeners", alias = "l")]
    Listener,
    /// Routes.
    #[value(alias = "routes", alias = "r")]
    Route,
    /// Endpoints.
    #[value(alias = "endpoints", alias = "ep", alias = "eds")]
    Endpoint,
    /// Certificates.
    #[value(alias = "secrets", alias = "s")]
    Secret,
    /// The file the proxy started from.
    #[value(alias = "b")]
    Bootstrap,
}

/// Flags of `dashboard`.
#[derive(Args)]
pub(crate) struct Dashboard {
    /// Open it in a browser.
    #[arg(long)]
    pub(crate) browser: bool,
}

/// Flags of `version`.
#[derive(Args)]
pub(crate) struct Version {
    /// The number alone.
    #[arg(short, long)]
    pub(crate) short: bool,
    /// Also ask the running mesh.
    #[arg(long, default_missing_value = "true", num_args = 0..=1, require_equals = true, default_value_t = false)]
    pub(crate) remote: bool,
}

/// Flags of `proxy`: those of Envoy that scripts use.
#[derive(Args)]
pub(crate) struct Proxy {
    /// Bootstrap file, YAML or JSON.
    #[arg(short, long, value_name = "PATH")]
    pub(crate) config_path: Option<PathBuf>,
    /// Bootstrap as text; laid over the file where both are given.
    #[arg(long, value_name = "YAML")]
    pub(crate) config_yaml: Option<String>,
    /// Worker threads; 0 or absent is one per core.
    #[arg(long)]
    pub(crate) concurrency: Option<u32>,
    /// Log level: trace, debug, info, warning, error, off.
    #[arg(short, long)]
    pub(crate) log_level: Option<String>,
    /// `serve`, or `validate` to check the bootstrap and end.
    #[arg(long, default_value = "serve")]
    pub(crate) mode: String,
    /// Node id.
    #[arg(long)]
    pub(crate) service_node: Option<String>,
    /// Node cluster.
    #[arg(long)]
    pub(crate) service_cluster: Option<String>,
    /// Time for connections to end after a stop signal, in seconds.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) drain_time_s: Option<u64>,
    /// Accepted as Envoy has it: there is no shared memory to number.
    #[arg(long, hide = true)]
    pub(crate) base_id: Option<String>,
    /// Accepted as Envoy has it: there is no hot restart.
    #[arg(long, hide = true)]
    pub(crate) disable_hot_restart: bool,
    /// Accepted as Envoy has it: there is no hot restart.
    #[arg(long, hide = true)]
    pub(crate) restart_epoch: Option<u32>,
    /// Accepted as Envoy has it.
    #[arg(long, hide = true)]
    pub(crate) parent_shutdown_time_s: Option<u64>,
    /// Accepted as Envoy has it: v3 is the only version.
    #[arg(long, hide = true)]
    pub(crate) allow_unknown_static_fields: bool,
    /// Accepted as Envoy has it: unknown dynamic fields are refused by NACK all the same.
    #[arg(long, hide = true)]
    pub(crate) ignore_unknown_dynamic_fields: bool,
    /// Accepted as Envoy has it.
    #[arg(long, hide = true)]
    pub(crate) component_log_level: Option<String>,
    /// Accepted as Envoy has it.
    #[arg(long, hide = true)]
    pub(crate) log_format: Option<String>,
}

/// Flags of `sidecar`. The rest comes by the environment that injection writes.
#[derive(Args)]
pub(crate) struct Sidecar {
    /// A gateway: a proxy without an application beside it.
    #[arg(long)]
    pub(crate) router: bool,
    /// Image that the pod asks for as its proxy; one called `envoy…` or `proxyv2` means a real Envoy.
    #[arg(long, value_name = "IMAGE")]
    pub(crate) proxy_image: Option<String>,
    /// Log level.
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
    /// Worker threads of the proxy; 0 is one per core.
    #[arg(long, value_name = "N")]
    pub(crate) concurrency: Option<usize>,
}

/// Flags of `discovery`.
#[derive(Args)]
pub(crate) struct Discovery {
    /// Unix socket of the object store.
    #[arg(long, value_name = "PATH")]
    pub(crate) store: PathBuf,
    /// Folder that keeps the certificate authority.
    #[arg(long, value_name = "PATH")]
    pub(crate) state: PathBuf,
    /// PEM file that service account tokens are verified with.
    #[arg(long, value_name = "PATH")]
    pub(crate) token_key: PathBuf,
    /// Lifetime of workload certificates.
    #[arg(long, value_name = "DURATION")]
    pub(crate) cert_ttl: Option<String>,
}
