//! `-w`: the text after a transfer.
//!
//! - Reads: a format with `%{name}` and the escapes `\n`, `\t`, `\r`.
//! - Limits: the variables of [`value`]; an unknown one is reported on standard error, as curl does.

use std::{io::Write as _, time::Duration};

use super::transfer::Report;

/// Prints `format` filled from `report`; `%{stderr}` and `%{stdout}` switch the stream.
pub(crate) fn print(format: &str, report: &Report) {
    let mut to_stderr = false;
    let mut rest = format;
    let mut text = String::new();
    let flush = |text: &mut String, to_stderr: bool| {
        // A closed pipe on the way out is nobody's problem.
        let _ = if to_stderr { std::io::stderr().write_all(text.as_bytes()) } else { std::io::stdout().write_all(text.as_bytes()) };
        text.clear();
    };
    while let Some(c) = rest.chars().next() {
        let after = rest.get(c.len_utf8()..).unwrap_or_default();
        rest = after;
        match c {
            '\\' => {
                let escaped = after.chars().next();
                text.push(match escaped {
                    Some('n') => '\n',
                    Some('t') => '\t',
                    Some('r') => '\r',
                    Some(other) => other,
                    None => '\\',
                });
                rest = after.get(escaped.map_or(0, char::len_utf8)..).unwrap_or_default();
            }
            '%' if after.starts_with('%') => {
                text.push('%');
                rest = after.get(1..).unwrap_or_default();
            }
            '%' if after.starts_with('{') => {
                let Some((name, tail)) = after.get(1..).and_then(|after| after.split_once('}')) else {
                    text.push('%');
                    continue;
                };
                rest = tail;
                match name {
                    "stderr" | "stdout" => {
                        flush(&mut text, to_stderr);
                        to_stderr = name == "stderr";
                    }
                    _ => match value(name, report) {
                        Some(value) => text.push_str(&value),
                        None => eprintln!("curl: unknown --write-out variable: '{name}'"),
                    },
                }
            }
            other => text.push(other),
        }
    }
    flush(&mut text, to_stderr);
}

fn value(name: &str, report: &Report) -> Option<String> {
    if let Some(header) = name.strip_prefix("header:") {
        return Some(report.headers.get(header).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned());
    }
    let seconds = |time: Duration| format!("{:.6}", time.as_secs_f64());
    Some(match name {
        "http_code" | "response_code" => format!("{:03}", report.status),
        "http_version" => report.http_version.to_owned(),
        "time_total" => seconds(report.time_total),
        "time_namelookup" => seconds(report.time_namelookup),
        "time_connect" => seconds(report.time_connect),
        "time_appconnect" => seconds(report.time_appconnect),
        "time_pretransfer" => seconds(report.time_pretransfer),
        "time_starttransfer" => seconds(report.time_starttransfer),
        "time_redirect" => seconds(Duration::ZERO),
        "size_download" => report.size_download.to_string(),
        "size_upload" => report.size_upload.to_string(),
        "num_connects" => report.connects.to_string(),
        "num_redirects" => report.redirects.to_string(),
        "redirect_url" => report.redirect_url.clone(),
        "url" => report.url.clone(),
        "url_effective" => report.url_effective.clone(),
        "content_type" => report.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned(),
        "remote_ip" => report.remote.map(|remote| remote.ip().to_string()).unwrap_or_default(),
        "remote_port" => report.remote.map(|remote| remote.port().to_string()).unwrap_or_default(),
        "local_ip" => report.local.map(|local| local.ip().to_string()).unwrap_or_default(),
        "local_port" => report.local.map(|local| local.port().to_string()).unwrap_or_default(),
        "exitcode" => report.exit_code.to_string(),
        "method" => report.method.clone(),
        "scheme" => report.scheme.clone(),
        _ => return None,
    })
}
