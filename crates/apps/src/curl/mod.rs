//! `curl`: enough of it to talk to a mesh from inside a pod, with curl's output and exit codes.
//!
//! - Reads: curl's options (`options.rs`); several URLs are fetched in order over one kept connection where possible.
//! - Rule: an exit code means what it means for curl (6 resolve, 7 connect, 22 `--fail`, 28 time, 35 TLS, 52 empty, 56 reset).
//! - Limits: `http` and `https` only; an option that is not implemented is refused with exit code 2, never ignored.
//! - Not here: opening connections (`connect.rs`), one exchange (`transfer.rs`), `-w` (`write_out.rs`).

mod connect;
mod options;
mod transfer;
mod write_out;

use std::{
    io::Write as _,
    process::ExitCode,
    time::{Duration, Instant},
};

use options::Options;
pub(crate) use transfer::base64;
use transfer::Client;

use crate::{Environment, server::block_on};

/// Why a transfer failed, as curl reports it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// curl's exit code.
    pub(crate) code: u8,
    /// Text after `curl: (N) `.
    pub(crate) message: String,
}

impl Failure {
    fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// Entry point of `lateen app curl`.
pub(crate) fn run(args: &[String], _env: &Environment) -> ExitCode {
    let options = match options::parse(args) {
        Ok(options) => options,
        Err(failure) => {
            eprintln!("curl: {}", failure.message);
            eprintln!("curl: try 'curl --help' for more information");
            return ExitCode::from(failure.code);
        }
    };
    if let Some(text) = options.information {
        print!("{text}");
        return ExitCode::SUCCESS;
    }
    block_on(all(options))
}

async fn all(options: Options) -> ExitCode {
    let mut client = Client::default();
    let mut last = 0;
    for url in &options.urls {
        last = one(&mut client, &options, url).await;
    }
    // A closed pipe on the way out is nobody's problem.
    let _ = std::io::stdout().flush();
    ExitCode::from(last)
}

/// One URL with its retries; returns curl's exit code.
async fn one(client: &mut Client, options: &Options, url: &str) -> u8 {
    let mut left = options.retries;
    let mut wait = Duration::from_secs(1);
    loop {
        let mut report = transfer::Report::new(url, Instant::now());
        let result = match options.max_time {
            Some(limit) => tokio::time::timeout(limit, transfer::fetch(client, options, url, &mut report)).await.unwrap_or_else(|_| {
                client.close();
                Err(Failure::new(28, format!("Operation timed out after {} milliseconds with {} bytes received", limit.as_millis(), report.size_download)))
            }),
            None => transfer::fetch(client, options, url, &mut report).await,
        };
        report.time_total = report.started.elapsed();
        let failure = result.err();
        report.exit_code = failure.as_ref().map_or(0, |failure| failure.code);
        if left > 0 && options.is_transient(failure.as_ref(), report.status) {
            left -= 1;
            tokio::time::sleep(options.retry_delay.unwrap_or(wait)).await;
            wait = wait.saturating_mul(2).min(Duration::from_secs(600));
            continue;
        }
        if let Some(format) = &options.write_out {
            write_out::print(format, &report);
        }
        return match failure {
            None => 0,
            Some(failure) => {
                if !options.silent || options.show_error {
                    eprintln!("curl: ({}) {}", failure.code, failure.message);
                }
                failure.code
            }
        };
    }
}
