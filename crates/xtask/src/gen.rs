//! `cargo xtask gen PROTO_ROOT`: writes the Envoy messages this project names as Rust.
//!
//! - Reads: a folder with Envoy's and its friends' `.proto` files (the `proto/` folder of the `envoy-types`
//!   package has them), and the small files in `crates/envoy-api/proto`.
//! - Writes: `crates/envoy-api/src/gen` (messages with protobuf-JSON, no I/O) and `crates/xds/src/gen` (gRPC services).
//! - Rule: comments of the sources are not copied, and the output is committed, so a build needs no generator.

use anyhow::{Context, Result};
use prost::Message as _;
use std::path::{Path, PathBuf};

/// The files whose messages we name; what they import comes along.
const ROOTS: &[&str] = &[
    "envoy/config/bootstrap/v3/bootstrap.proto",
    "envoy/config/listener/v3/listener.proto",
    "envoy/config/cluster/v3/cluster.proto",
    "envoy/config/endpoint/v3/endpoint.proto",
    "envoy/config/route/v3/route.proto",
    "envoy/config/route/v3/scoped_route.proto",
    "envoy/config/rbac/v3/rbac.proto",
    "envoy/config/trace/v3/zipkin.proto",
    "envoy/config/trace/v3/opentelemetry.proto",
    "envoy/admin/v3/config_dump.proto",
    "envoy/admin/v3/clusters.proto",
    "envoy/admin/v3/server_info.proto",
    "envoy/admin/v3/listeners.proto",
    "envoy/admin/v3/certs.proto",
    "envoy/service/discovery/v3/ads.proto",
    "envoy/service/discovery/v3/discovery.proto",
    "envoy/service/secret/v3/sds.proto",
    "envoy/extensions/transport_sockets/tls/v3/tls.proto",
    "envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer.proto",
    "envoy/extensions/upstreams/http/v3/http_protocol_options.proto",
    "envoy/extensions/access_loggers/file/v3/file.proto",
    "envoy/extensions/access_loggers/stream/v3/stream.proto",
    "envoy/extensions/access_loggers/filters/cel/v3/cel.proto",
    "envoy/extensions/filters/listener/http_inspector/v3/http_inspector.proto",
    "envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector.proto",
    "envoy/extensions/filters/listener/original_dst/v3/original_dst.proto",
    "envoy/extensions/filters/listener/proxy_protocol/v3/proxy_protocol.proto",
    "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.proto",
    "envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.proto",
    "envoy/extensions/filters/network/rbac/v3/rbac.proto",
    "envoy/extensions/filters/network/sni_cluster/v3/sni_cluster.proto",
    "envoy/extensions/filters/http/router/v3/router.proto",
    "envoy/extensions/filters/http/fault/v3/fault.proto",
    "envoy/extensions/filters/http/cors/v3/cors.proto",
    "envoy/extensions/filters/http/rbac/v3/rbac.proto",
    "envoy/extensions/filters/http/grpc_stats/v3/config.proto",
    "envoy/extensions/filters/http/jwt_authn/v3/config.proto",
    "envoy/extensions/filters/http/ext_authz/v3/ext_authz.proto",
    "envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit.proto",
    "envoy/extensions/filters/http/ratelimit/v3/rate_limit.proto",
    "envoy/extensions/filters/http/header_mutation/v3/header_mutation.proto",
    "envoy/extensions/filters/http/compressor/v3/compressor.proto",
    "envoy/extensions/filters/http/buffer/v3/buffer.proto",
    "envoy/extensions/filters/http/health_check/v3/health_check.proto",
    "envoy/extensions/request_id/uuid/v3/uuid.proto",
    "envoy/extensions/retry/host/previous_hosts/v3/previous_hosts.proto",
    "envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config.proto",
    "envoy/extensions/path/match/uri_template/v3/uri_template_match.proto",
    "envoy/extensions/path/rewrite/uri_template/v3/uri_template_rewrite.proto",
    "envoy/extensions/network/dns_resolver/cares/v3/cares_dns_resolver.proto",
    "envoy/extensions/bootstrap/internal_listener/v3/internal_listener.proto",
    "envoy/extensions/load_balancing_policies/least_request/v3/least_request.proto",
    "envoy/extensions/load_balancing_policies/round_robin/v3/round_robin.proto",
    "envoy/extensions/load_balancing_policies/random/v3/random.proto",
    "envoy/extensions/load_balancing_policies/ring_hash/v3/ring_hash.proto",
    "envoy/extensions/load_balancing_policies/maglev/v3/maglev.proto",
    "envoy/extensions/load_balancing_policies/wrr_locality/v3/wrr_locality.proto",
    "istio_ca.proto",
    "istio_nds.proto",
    "istio_filters.proto",
    "metadata_exchange.proto",
    "istio_stats.proto",
    "istio_peer_metadata.proto",
    "typed_struct.proto",
    "typed_struct_xds.proto",
];

/// Imported files that need [`absolute_names`].
const LAX: &[&str] = &[
    "envoy/extensions/clusters/dns/v3/dns_cluster.proto",
    "envoy/extensions/clusters/dynamic_forward_proxy/v3/cluster.proto",
    "envoy/extensions/filters/http/dynamic_forward_proxy/v3/dynamic_forward_proxy.proto",
    "envoy/extensions/filters/udp/udp_proxy/session/dynamic_forward_proxy/v3/dynamic_forward_proxy.proto",
    "envoy/extensions/filters/network/sni_dynamic_forward_proxy/v3/sni_dynamic_forward_proxy.proto",
    "envoy/extensions/transport_sockets/tap/v3/tap.proto",
];

/// Services get their server and client in `xds`; everything else is messages only.
const SERVICES: &[&str] = &[
    "envoy/service/discovery/v3/ads.proto",
    "envoy/service/secret/v3/sds.proto",
    "istio_ca.proto",
];

/// Generates everything from `proto_root`.
pub fn run(proto_root: &Path) -> Result<()> {
    let own = Path::new("crates/envoy-api/proto");
    let mut includes = vec![own.to_path_buf()];
    for entry in std::fs::read_dir(proto_root).context("PROTO_ROOT")? {
        includes.push(entry?.path());
    }
    includes.insert(0, absolute_names(&includes)?);
    let mut compiler = protox::Compiler::new(&includes)?;
    compiler.include_imports(true).include_source_info(false);
    compiler.open_files(ROOTS.iter().map(PathBuf::from))?;
    let descriptors = compiler.file_descriptor_set();

    let out = Path::new("crates/envoy-api/src/gen");
    let _ = std::fs::remove_dir_all(out);
    std::fs::create_dir_all(out)?;
    prost_build::Config::new()
        .out_dir(out)
        .enable_type_names()
        .compile_well_known_types()
        .disable_comments(["."])
        .include_file("mod.rs")
        .extern_path(".google.protobuf.Any", "crate::any::Any")
        .extern_path(".google.protobuf", "::pbjson_types")
        .service_generator(Box::new(NoServices))
        .compile_fds(descriptors.clone())?;

    let mut json = pbjson_build::Builder::new();
    json.register_descriptors(&descriptors.encode_to_vec())?;
    json.out_dir(out);
    json.extern_path(".google.protobuf.Any", "crate::any::Any");
    json.extern_path(".google.protobuf", "::pbjson_types");
    json.build(&[".envoy", ".xds", ".udpa", ".istio", ".stats", ".io", ".google.rpc", ".google.api", ".cel", ".opentelemetry", ".validate"])?;
    join_json(out)?;

    let services = Path::new("crates/xds/src/gen");
    let _ = std::fs::remove_dir_all(services);
    std::fs::create_dir_all(services)?;
    let mut compiler = protox::Compiler::new(&includes)?;
    compiler.include_imports(true).include_source_info(false);
    compiler.open_files(SERVICES.iter().map(PathBuf::from))?;
    let mut config = prost_build::Config::new();
    config
        .extern_path(".envoy", "::lateen_envoy_api::envoy")
        .extern_path(".istio", "::lateen_envoy_api::istio")
        .extern_path(".xds", "::lateen_envoy_api::xds")
        .extern_path(".google.rpc", "::lateen_envoy_api::google::rpc")
        .compile_well_known_types()
        .extern_path(".google.protobuf", "::pbjson_types")
        .disable_comments(["."]);
    tonic_prost_build::configure()
        .out_dir(services)
        .include_file("mod.rs")
        .build_transport(false)
        .compile_fds_with_config(compiler.file_descriptor_set(), config)?;
    Ok(())
}

/// protox resolves `common.ratelimit.v3.X` from the innermost scope outwards as the language says, and finds the wrong
/// `common`; Envoy's tools are laxer. Returns a folder, to be searched first, with the absolute name written out.
fn absolute_names(includes: &[PathBuf]) -> Result<PathBuf> {
    let dir = std::env::temp_dir().join("lateen-xtask-gen");
    for file in ROOTS.iter().chain(LAX) {
        let Some(source) = includes.iter().map(|i| i.join(file)).find(|p| p.exists()) else { continue };
        let text = std::fs::read_to_string(source)?;
        let fixed = ["ratelimit", "dynamic_forward_proxy", "tap"].iter().fold(text.clone(), |text, package| {
            text.replace(&format!(" common.{package}."), &format!(" .envoy.extensions.common.{package}."))
        });
        if fixed != text {
            let target = dir.join(file);
            std::fs::create_dir_all(target.parent().context("a path below the root")?)?;
            std::fs::write(target, fixed)?;
        }
    }
    Ok(dir)
}

/// The prost step writes messages only.
struct NoServices;

impl prost_build::ServiceGenerator for NoServices {
    fn generate(&mut self, _service: prost_build::Service, _buf: &mut String) {}
}

/// pbjson writes `X.serde.rs` beside prost's `X.rs`; this appends the one to the other.
fn join_json(out: &Path) -> Result<()> {
    for entry in std::fs::read_dir(out)? {
        let path = entry?.path();
        let Some(stem) = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(".serde.rs")) else {
            continue;
        };
        let target = out.join(format!("{stem}.rs"));
        if target.exists() {
            let mut text = std::fs::read_to_string(&target)?;
            text.push_str(&std::fs::read_to_string(&path)?);
            std::fs::write(&target, text)?;
        }
        std::fs::remove_file(&path)?;
    }
    Ok(())
}
