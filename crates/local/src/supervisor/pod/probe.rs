//! Probes: whether a container has started, is ready, is alive.
//!
//! - Reads: `startupProbe`, `readinessProbe`, `livenessProbe`.
//! - Twin: `inject/src/probes.rs`, which redirects the application's probes to the agent.
//! - Rule: [`Counter`] is pure: thresholds in, verdicts out.
//! - Rule: until the first success a container is asked often ([`EAGER_PERIOD`]), so that a mesh is up when it is up and not a period later.
//! - Limits: an answer's first line is read, at most [`ANSWER_BYTES_MAX`]; HTTPS is asked for a connection only.

use lateen_kube_api::{Container, HttpGetAction, IntOrString, Probe};
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Pause between questions before the first success: 5 ms, growing.
const EAGER_PERIOD: Duration = Duration::from_millis(5);
/// The pause grows to this.
const EAGER_MAX: Duration = Duration::from_millis(100);
const ANSWER_BYTES_MAX: usize = 1024;
/// Kubernetes' default of `periodSeconds`.
const PERIOD_DEFAULT: i32 = 10;
/// Kubernetes' default of `failureThreshold`.
const FAILURES_DEFAULT: i32 = 3;

/// How a probe asks, resolved against its container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// `GET` of this path with these headers; 200–399 is yes.
    Http { address: (Ipv4Addr, u16), path: String, headers: Vec<(String, String)> },
    /// A connection is yes.
    Tcp { address: (Ipv4Addr, u16) },
    /// A program in the pod; exit code 0 is yes.
    Exec(Vec<String>),
}

/// How a probe asks; `None` when its port cannot be found, which is a "no" for ever, as in Kubernetes.
pub(crate) fn question(probe: &Probe, container: &Container, ip: Ipv4Addr) -> Option<Question> {
    let port_of = |port: &IntOrString| match port {
        IntOrString::Int(_) => port.port(),
        IntOrString::String(name) => container.ports.iter().find(|port| port.name == *name).map(|port| port.container_port),
    };
    if let Some(get) = &probe.http_get {
        return http_question(get, port_of(&get.port)?, ip);
    }
    if let Some(tcp) = &probe.tcp_socket {
        return Some(Question::Tcp { address: (tcp.host.parse().unwrap_or(ip), port_of(&tcp.port)?) });
    }
    if let Some(grpc) = &probe.grpc {
        return Some(Question::Tcp { address: (ip, grpc.port) });
    }
    probe.exec.as_ref().map(|exec| Question::Exec(exec.command.clone()))
}

/// The question of an HTTP probe or hook.
pub(crate) fn http_question(get: &HttpGetAction, port: u16, ip: Ipv4Addr) -> Option<Question> {
    let address = (get.host.parse().unwrap_or(ip), port);
    if get.scheme.eq_ignore_ascii_case("HTTPS") {
        return Some(Question::Tcp { address });
    }
    let path = if get.path.starts_with('/') { get.path.clone() } else { format!("/{}", get.path) };
    let headers = get.http_headers.iter().map(|header| (header.name.clone(), header.value.clone())).collect();
    Some(Question::Http { address, path, headers })
}

/// Asks over the network, once. `Exec` is not asked here.
///
/// # Errors
/// When there is no connection or no HTTP answer.
pub(crate) async fn ask(question: &Question) -> io::Result<bool> {
    match question {
        Question::Tcp { address } => TcpStream::connect(address).await.map(|_| true),
        Question::Exec(_) => Ok(false),
        Question::Http { address, path, headers } => {
            let mut stream = TcpStream::connect(address).await?;
            let host = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("host"));
            let host = host.map_or_else(|| format!("{}:{}", address.0, address.1), |(_, value)| value.clone());
            let mut request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: kube-probe/1.34\r\nAccept: */*\r\nConnection: close\r\n");
            for (name, value) in headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("host")) {
                request.push_str(&format!("{name}: {value}\r\n"));
            }
            request.push_str("\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut answer = Vec::new();
            while !answer.contains(&b'\n') && answer.len() < ANSWER_BYTES_MAX {
                if stream.read_buf(&mut answer).await? == 0 {
                    break;
                }
            }
            Ok(status_of(&answer).is_some_and(|status| (200..400).contains(&status)))
        }
    }
}

fn status_of(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\r').next()?;
    std::str::from_utf8(line).ok()?.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()
}

/// Counts answers against a probe's thresholds.
#[derive(Clone, Debug)]
pub(crate) struct Counter {
    successes_wanted: i32,
    failures_wanted: i32,
    successes: i32,
    failures: i32,
}

/// What a row of answers means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Enough successes in a row.
    Passed,
    /// Enough failures in a row.
    Failed,
    /// Neither; what held before holds on.
    Undecided,
}

impl Counter {
    pub(crate) fn new(probe: &Probe) -> Self {
        let or = |value: i32, default: i32| if value > 0 { value } else { default };
        Self { successes_wanted: or(probe.success_threshold, 1), failures_wanted: or(probe.failure_threshold, FAILURES_DEFAULT), successes: 0, failures: 0 }
    }

    /// Takes one answer in.
    pub(crate) fn count(&mut self, answer: bool) -> Verdict {
        if answer {
            (self.successes, self.failures) = (self.successes.saturating_add(1), 0);
        } else {
            (self.successes, self.failures) = (0, self.failures.saturating_add(1));
        }
        match (self.successes >= self.successes_wanted, self.failures >= self.failures_wanted) {
            (true, _) => Verdict::Passed,
            (false, true) => Verdict::Failed,
            (false, false) => Verdict::Undecided,
        }
    }
}

/// `periodSeconds`.
pub(crate) fn period(probe: &Probe) -> Duration {
    seconds(if probe.period_seconds > 0 { probe.period_seconds } else { PERIOD_DEFAULT })
}

/// `timeoutSeconds`.
pub(crate) fn timeout(probe: &Probe) -> Duration {
    seconds(probe.timeout_seconds.max(1))
}

/// `initialDelaySeconds`.
pub(crate) fn initial_delay(probe: &Probe) -> Duration {
    seconds(probe.initial_delay_seconds)
}

/// How long a startup probe may go without success.
pub(crate) fn startup_limit(probe: &Probe) -> Duration {
    let failures = if probe.failure_threshold > 0 { probe.failure_threshold } else { FAILURES_DEFAULT };
    period(probe).saturating_mul(u32::try_from(failures).unwrap_or(1))
}

fn seconds(number: i32) -> Duration {
    Duration::from_secs(u64::try_from(number).unwrap_or(0))
}

/// The pauses before the first success.
#[derive(Debug, Default)]
pub(crate) struct Eager {
    asked: u32,
}

impl Eager {
    /// The next pause; never longer than `period`.
    pub(crate) fn next(&mut self, period: Duration) -> Duration {
        self.asked = self.asked.saturating_add(1);
        EAGER_PERIOD.saturating_mul(self.asked.min(1000)).min(EAGER_MAX).min(period)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn thresholds_count_answers_in_a_row() {
        let probe: Probe = serde_json::from_value(json!({"successThreshold": 2, "failureThreshold": 3})).unwrap();
        let mut counter = Counter::new(&probe);
        let verdicts: Vec<Verdict> = [true, true, false, false, true, false, false, false].map(|answer| counter.count(answer)).into();
        use Verdict::{Failed, Passed, Undecided};
        assert_eq!(verdicts, [Undecided, Passed, Undecided, Undecided, Undecided, Undecided, Undecided, Failed]);
    }

    #[test]
    fn a_named_port_is_found_and_an_unknown_one_is_not() {
        let container: Container = serde_json::from_value(json!({"ports": [{"name": "http", "containerPort": 8080}]})).unwrap();
        let probe = |port: &str| serde_json::from_value(json!({"tcpSocket": {"port": port}})).unwrap();
        let ip = Ipv4Addr::new(10, 244, 0, 2);
        assert_eq!(question(&probe("http"), &container, ip), Some(Question::Tcp { address: (ip, 8080) }));
        assert_eq!(question(&probe("nope"), &container, ip), None);
    }

    #[tokio::test]
    async fn redirects_pass_and_errors_do_not() {
        for (answer, expected) in [("HTTP/1.1 200 OK\r\n\r\n", true), ("HTTP/1.1 302 Found\r\n\r\n", true), ("HTTP/1.1 503 x\r\n\r\n", false), ("nonsense", false)] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let server = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 1024];
                let count = stream.read(&mut request).await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
                String::from_utf8_lossy(&request[..count]).into_owned()
            });
            let question = Question::Http { address: (Ipv4Addr::LOCALHOST, port), path: "/ok".into(), headers: vec![] };
            assert_eq!(ask(&question).await.unwrap(), expected, "{answer}");
            assert!(server.await.unwrap().starts_with("GET /ok HTTP/1.1\r\nHost: 127.0.0.1:"));
        }
    }

    #[test]
    fn eager_pauses_grow_to_a_tenth_of_a_second() {
        let mut eager = Eager::default();
        let pauses: Vec<u128> = (0..30).map(|_| eager.next(Duration::from_secs(10)).as_millis()).collect();
        assert_eq!((pauses[0], pauses[1], pauses[29]), (5, 10, 100));
    }
}
