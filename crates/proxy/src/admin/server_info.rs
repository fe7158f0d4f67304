//! `/server_info` and `/memory`: what runs, since when, with what.
//!
//! - Rule: field names are those of `admin.v3.ServerInfo` as Envoy prints them.

use serde_json::json;

use super::Answer;
use crate::server::Server;

/// Answers `/server_info`.
pub fn answer(server: &Server) -> Answer {
    let uptime = format!("{}s", server.started.elapsed().as_secs());
    Answer::json(&json!({
        "version": format!("lateen/{}/{}", server.version, if cfg!(debug_assertions) { "DEBUG" } else { "RELEASE" }),
        "state": server.state().text(),
        "uptime_current_epoch": uptime,
        "uptime_all_epochs": uptime,
        "hot_restart_version": "disabled",
        "command_line_options": {
            "concurrency": server.workers_len(),
            "drain_time": format!("{}s", server.drain_time.as_secs()),
            "service_node": server.bootstrap.node().id,
            "service_cluster": server.bootstrap.node().cluster,
        },
        "node": super::config_dump::snake(serde_json::to_value(server.bootstrap.node()).unwrap_or_default()),
    }))
}

/// Answers `/memory` from `/proc/self/status`; sizes in bytes.
pub fn memory() -> Answer {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = |name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default();
        line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0)
    };
    Answer::json(&json!({
        "allocated": (kib("RssAnon") * 1024).to_string(),
        "heap_size": (kib("VmData") * 1024).to_string(),
        "total_physical_bytes": (kib("VmRSS") * 1024).to_string(),
    }))
}
