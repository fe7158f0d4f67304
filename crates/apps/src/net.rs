//! Small things several stand-ins need: times in text, the machine's addresses and name.
//!
//! - Reads: a `SystemTime`; the kernel's interface addresses by way of an unconnected UDP socket.
//! - Limits: years 1970 to 9999.

use std::{
    net::{IpAddr, UdpSocket},
    time::{Duration, SystemTime},
};

/// `2026/08/01 12:00:00`, UTC, as Go's `log` package writes it.
pub(crate) fn log_time(now: SystemTime) -> String {
    let (year, month, day, hour, minute, second, _) = civil(now);
    format!("{year:04}/{month:02}/{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// `2026-08-01T12:00:00.000000`, UTC, as fake-service and Python write it.
pub(crate) fn iso_time(now: SystemTime) -> String {
    let (year, month, day, hour, minute, second, micros) = civil(now);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}")
}

/// A duration as Go prints it: `1.5s`, `250ms`, `12.3µs`.
pub(crate) fn go_duration(duration: Duration) -> String {
    format!("{duration:?}")
}

/// The address this machine would use towards the outside; loopback where there is none.
pub(crate) fn own_address() -> IpAddr {
    let probe = || -> std::io::Result<IpAddr> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        // No packet is sent: connecting a UDP socket only chooses the source address.
        socket.connect("10.96.0.1:9")?;
        Ok(socket.local_addr()?.ip())
    };
    probe().unwrap_or(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST))
}

/// The machine's (in a pod: the pod's) host name.
pub(crate) fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map_or_else(|_| "localhost".to_owned(), |name| name.trim().to_owned())
}

/// Year, month, day, hour, minute, second, microsecond of a point in time, UTC.
fn civil(now: SystemTime) -> (u64, u64, u64, u64, u64, u64, u32) {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (days, rest) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Days since 0000-03-01, counted in eras of 400 years, so that the leap day is the last of its year.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day, rest / 3600, rest / 60 % 60, rest % 60, since.subsec_micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calendar_knows_leap_days() {
        let at = |seconds| log_time(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970/01/01 00:00:00");
        assert_eq!(at(951_782_400), "2000/02/29 00:00:00");
        assert_eq!(at(1_709_251_199), "2024/02/29 23:59:59");
    }
}
