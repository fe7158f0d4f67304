//! `sleep`: waits, and ends at once on a stop signal.
//!
//! - Reads: times with the suffixes s, m, h, d, or `infinity`; several add up.
//! - Rule: `SIGTERM` ends it with 143, as a shell reports it, also when it is a container's first process.

use std::{process::ExitCode, time::Duration};

use tokio::signal::unix::{SignalKind, signal};

use crate::{Environment, server::block_on};

/// Entry point of `lateen app sleep`.
pub(crate) fn run(args: &[String], _env: &Environment) -> ExitCode {
    if args.is_empty() {
        eprintln!("sleep: missing operand");
        return ExitCode::FAILURE;
    }
    let mut total = Some(Duration::ZERO);
    for arg in args {
        match time(arg) {
            Ok(Some(time)) => total = total.and_then(|total| total.checked_add(time)),
            Ok(None) => total = None,
            Err(()) => {
                eprintln!("sleep: invalid time interval '{arg}'");
                return ExitCode::FAILURE;
            }
        }
    }
    block_on(async move {
        let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
            return ExitCode::FAILURE;
        };
        let wait = async {
            match total {
                Some(total) => tokio::time::sleep(total).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = wait => ExitCode::SUCCESS,
            _ = term.recv() => ExitCode::from(143),
            _ = int.recv() => ExitCode::from(130),
        }
    })
}

/// One operand; `Ok(None)` is for ever.
fn time(text: &str) -> Result<Option<Duration>, ()> {
    if matches!(text, "infinity" | "inf") {
        return Ok(None);
    }
    let (number, scale) = match text.chars().last() {
        Some('s') => (text.trim_end_matches('s'), 1.0),
        Some('m') => (text.trim_end_matches('m'), 60.0),
        Some('h') => (text.trim_end_matches('h'), 3600.0),
        Some('d') => (text.trim_end_matches('d'), 86400.0),
        _ => (text, 1.0),
    };
    let seconds: f64 = number.parse().map_err(|_| ())?;
    Duration::try_from_secs_f64(seconds * scale).map(Some).map_err(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_scale() {
        assert_eq!(time("1.5m"), Ok(Some(Duration::from_secs(90))));
        assert_eq!(time("infinity"), Ok(None));
        assert!(time("soon").is_err());
        assert!(time("-1").is_err());
    }
}
