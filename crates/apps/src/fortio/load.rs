//! `fortio load`: calls on kept connections at a steady rate, and the report about them.
//!
//! - Reads: [`Plan`]; the name is resolved once.
//! - Rule: a rate is kept per thread by a timetable; a late call catches up, as in the original.
//! - Limits: an answer's body up to [`BODY_BYTES_MAX`] is read and thrown away; with `-bodies` up to [`BODIES_MAX`] distinct ones are counted.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    net::SocketAddr,
    process::ExitCode,
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpStream;

use super::SAMPLES_MAX;
use crate::cli_args::{Parsed, duration};

const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
const BODIES_MAX: usize = 100;

/// What to do.
pub(super) struct Plan {
    uri: Uri,
    request: Request<()>,
    payload: Bytes,
    threads: usize,
    /// Calls a second over all threads; 0: no limit.
    qps: f64,
    calls: Option<u64>,
    time: Duration,
    timeout: Duration,
    keep: bool,
    count_bodies: bool,
    percentiles: Vec<f64>,
    single: bool,
    json_path: Option<String>,
}

impl Plan {
    /// Reads flags and URL.
    ///
    /// # Errors
    /// Text for the user.
    pub(super) fn from_flags(parsed: &Parsed, single: bool) -> Result<Self, String> {
        let url = parsed.operands.first().ok_or("missing URL argument")?;
        let url = if url.contains("://") { url.clone() } else { format!("http://{url}") };
        let uri: Uri = url.parse().map_err(|error| format!("bad URL `{url}`: {error}"))?;
        if uri.scheme_str() != Some("http") {
            return Err(format!("`{url}`: only http:// URLs are supported"));
        }
        let number = |name: &str, default: f64| match parsed.last(name) {
            None => Ok(default),
            Some("max") => Ok(0.0),
            Some(text) => text.parse::<f64>().map_err(|_| format!("invalid value \"{text}\" for flag -{name}")),
        };
        let time = |name: &str, default: &str| duration(parsed.last(name).unwrap_or(default));
        let whole = |name: &str, default: u64| match parsed.last(name) {
            None => Ok(default),
            Some(text) => text.parse::<u64>().map_err(|_| format!("invalid value \"{text}\" for flag -{name}")),
        };
        let calls = if single { Some(1) } else { Some(whole("n", 0)?).filter(|calls| *calls > 0) };
        let percentiles: Result<Vec<f64>, _> = parsed.last("p").unwrap_or("50,75,90,99,99.9").split(',').map(str::parse).collect();
        Ok(Self {
            request: request(parsed, &uri)?,
            uri,
            payload: Bytes::from(parsed.last("payload").unwrap_or_default().to_owned()),
            threads: usize::try_from(if single { 1 } else { whole("c", 4)?.max(1) }).unwrap_or(1),
            qps: number("qps", 8.0)?.max(0.0),
            calls,
            time: time("t", "5s")?,
            timeout: time("timeout", "3s")?,
            keep: parsed.last("keepalive") != Some("false"),
            count_bodies: parsed.is_set("bodies"),
            percentiles: percentiles.map_err(|_| "invalid value for flag -p".to_owned())?,
            single,
            json_path: parsed.last("json").map(str::to_owned),
        })
    }
}

fn request(parsed: &Parsed, uri: &Uri) -> Result<Request<()>, String> {
    let mut request = Request::new(());
    *request.uri_mut() = uri.path_and_query().map_or("/", |path| path.as_str()).parse().map_err(|error| format!("bad path: {error}"))?;
    let method = parsed.last("X").unwrap_or(if parsed.last("payload").is_some() { "POST" } else { "GET" });
    *request.method_mut() = Method::from_bytes(method.as_bytes()).map_err(|_| format!("bad method `{method}`"))?;
    let host = uri.authority().map_or("", |authority| authority.as_str());
    let headers = request.headers_mut();
    headers.insert(header::HOST, HeaderValue::from_str(host).map_err(|_| format!("bad host `{host}`"))?);
    headers.insert(header::USER_AGENT, HeaderValue::from_static("fortio.org/fortio-1.66.0"));
    let lines = parsed.flags.iter().filter(|(flag, _)| flag == "H").map(|(_, line)| line.clone());
    let kind = parsed.last("content-type").map(|kind| format!("content-type: {kind}"));
    for line in lines.chain(kind) {
        let (name, value) = line.split_once(':').ok_or_else(|| format!("invalid extra header '{line}', expecting Key: Value"))?;
        let name: HeaderName = name.trim().parse().map_err(|_| format!("invalid header name `{name}`"))?;
        let value = HeaderValue::from_str(value.trim()).map_err(|_| format!("invalid value of header `{name}`"))?;
        if name == header::HOST {
            headers.insert(name, value);
        } else {
            headers.append(name, value);
        }
    }
    Ok(request)
}

/// What all threads saw.
#[derive(Default)]
struct Seen {
    codes: BTreeMap<i32, u64>,
    bodies: BTreeMap<String, u64>,
    seconds: Vec<f64>,
    calls: u64,
    sockets: u64,
    body_bytes: u64,
    last_error: Option<String>,
    last_body: Bytes,
}

/// Runs the plan and prints the report.
pub(super) async fn run(plan: Plan) -> ExitCode {
    let host = plan.uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let address = match tokio::net::lookup_host((host, plan.uri.port_u16().unwrap_or(80))).await.map(|mut found| found.next()) {
        Ok(Some(address)) => address,
        Ok(None) => {
            eprintln!("fortio: {host}: no such host");
            return ExitCode::FAILURE;
        }
        Err(error) => {
            eprintln!("fortio: lookup {host}: {error}");
            return ExitCode::FAILURE;
        }
    };
    if !plan.single {
        let limit = plan.calls.map_or_else(|| format!("{:?}", plan.time), |calls| format!("{calls} calls"));
        println!("Fortio 1.66.0 running at {} queries per second, for {limit}: {}", plan.qps, plan.uri);
    }
    let plan = Rc::new(plan);
    let seen = Rc::new(RefCell::new(Seen::default()));
    let started = Instant::now();
    let local = tokio::task::LocalSet::new();
    for thread in 0..plan.threads {
        local.spawn_local(one_thread(Rc::clone(&plan), Rc::clone(&seen), address, thread, started));
    }
    local.await;
    let took = started.elapsed();
    let seen = seen.take();
    if plan.single {
        print!("{}", String::from_utf8_lossy(&seen.last_body));
    } else {
        report(&plan, &seen, took);
    }
    if let Some(error) = &seen.last_error {
        eprintln!("fortio: {} calls without answer, the last: {error}", seen.codes.get(&-1).unwrap_or(&0));
    }
    let answered = seen.codes.keys().any(|code| *code > 0);
    if answered { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn one_thread(plan: Rc<Plan>, seen: Rc<RefCell<Seen>>, address: SocketAddr, thread: usize, started: Instant) {
    let threads = u64::try_from(plan.threads).unwrap_or(1);
    let thread = u64::try_from(thread).unwrap_or(0);
    let share = plan.calls.map(|calls| calls / threads + u64::from(thread < calls % threads));
    let interval = if plan.qps > 0.0 { Duration::try_from_secs_f64(f64::from(u32::try_from(plan.threads).unwrap_or(1)) / plan.qps).ok() } else { None };
    // Threads start evenly spread over one interval, so that the rate is even from the start.
    let offset = interval.map_or(Duration::ZERO, |interval| interval.mul_f64(f64::from(u32::try_from(thread).unwrap_or(0)) / f64::from(u32::try_from(plan.threads).unwrap_or(1))));
    let mut connection: Option<SendRequest<Full<Bytes>>> = None;
    let mut number = 0u32;
    loop {
        if share.map_or_else(|| started.elapsed() >= plan.time, |share| u64::from(number) >= share) {
            return;
        }
        if let Some(interval) = interval {
            let due = started + offset + interval * number;
            if plan.calls.is_none() && due >= started + plan.time {
                return;
            }
            tokio::time::sleep_until(due.into()).await;
        }
        number += 1;
        let begun = Instant::now();
        let outcome = match tokio::time::timeout(plan.timeout, call(&plan, &mut connection, address, &seen)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("timeout after {:?}", plan.timeout)),
        };
        if outcome.is_err() || !plan.keep {
            connection = None;
        }
        seen.borrow_mut().note(&plan, outcome, begun.elapsed());
    }
}

impl Seen {
    fn note(&mut self, plan: &Plan, outcome: Result<(u16, Bytes), String>, took: Duration) {
        self.calls += 1;
        if self.seconds.len() < SAMPLES_MAX {
            self.seconds.push(took.as_secs_f64());
        }
        match outcome {
            Ok((code, body)) => {
                *self.codes.entry(i32::from(code)).or_default() += 1;
                self.body_bytes += u64::try_from(body.len()).unwrap_or(0);
                if plan.count_bodies {
                    let text = String::from_utf8_lossy(&body).trim_end().to_owned();
                    if self.bodies.len() < BODIES_MAX || self.bodies.contains_key(&text) {
                        *self.bodies.entry(text).or_default() += 1;
                    }
                }
                self.last_body = body;
            }
            Err(error) => {
                *self.codes.entry(-1).or_default() += 1;
                self.last_error = Some(error);
            }
        }
    }
}

/// One call; a kept connection that the server closed meanwhile is replaced once.
async fn call(plan: &Plan, connection: &mut Option<SendRequest<Full<Bytes>>>, address: SocketAddr, seen: &RefCell<Seen>) -> Result<(u16, Bytes), String> {
    let usable = match connection.as_mut() {
        Some(sender) => sender.ready().await.is_ok(),
        None => false,
    };
    if !usable {
        seen.borrow_mut().sockets += 1;
        let stream = TcpStream::connect(address).await.map_err(|error| format!("dial tcp {address}: {error}"))?;
        // Only costs time where it fails.
        let _ = stream.set_nodelay(true);
        let (sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        // Its error reaches the sender too.
        tokio::task::spawn_local(driver);
        *connection = Some(sender);
    }
    let sender = connection.as_mut().ok_or("no connection")?;
    let mut request = Request::new(Full::new(plan.payload.clone()));
    *request.method_mut() = plan.request.method().clone();
    *request.uri_mut() = plan.request.uri().clone();
    *request.headers_mut() = plan.request.headers().clone();
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await.map_err(|error| error.to_string())?;
    Ok((status, body.to_bytes()))
}

fn report(plan: &Plan, seen: &Seen, took: Duration) {
    let mut sorted = seen.seconds.clone();
    sorted.sort_by(f64::total_cmp);
    let count = f64::from(u32::try_from(sorted.len()).unwrap_or(u32::MAX)).max(1.0);
    let sum: f64 = sorted.iter().sum();
    let average = sum / count;
    let deviation = (sorted.iter().map(|time| (time - average).powi(2)).sum::<f64>() / count).sqrt();
    let calls = f64::from(u32::try_from(seen.calls).unwrap_or(u32::MAX));
    let qps = calls / took.as_secs_f64();
    println!("Ended after {took:?} : {} calls. qps={qps:.5}", seen.calls);
    println!(
        "Aggregated Function Time : count {} avg {average:.9} +/- {deviation:.4} min {:.9} max {:.9} sum {sum:.9}",
        sorted.len(),
        sorted.first().unwrap_or(&0.0),
        sorted.last().unwrap_or(&0.0)
    );
    let mut percentiles = serde_json::Map::new();
    for wanted in &plan.percentiles {
        let value = percentile(&sorted, *wanted);
        println!("# target {wanted}% {value:.9}");
        percentiles.insert(format!("p{wanted}"), json!(value * 1000.0));
    }
    println!("Sockets used: {} (for perfect keepalive, would be {})", seen.sockets, plan.threads);
    for (code, number) in &seen.codes {
        println!("Code {code:3} : {number} ({:.1} %)", 100.0 * f64::from(u32::try_from(*number).unwrap_or(u32::MAX)) / calls.max(1.0));
    }
    println!("All done {} calls (plus 0 warmup) {:.3} ms avg, {qps:.1} qps", seen.calls, average * 1000.0);
    let codes: BTreeMap<String, u64> = seen.codes.iter().map(|(code, number)| (code.to_string(), *number)).collect();
    let mut summary = json!({
        "calls": seen.calls, "codes": codes, "qps": qps, "seconds": took.as_secs_f64(), "avg_ms": average * 1000.0,
        "max_ms": sorted.last().unwrap_or(&0.0) * 1000.0, "percentiles_ms": percentiles, "sockets": seen.sockets, "body_bytes": seen.body_bytes,
    });
    if plan.count_bodies {
        summary["bodies"] = json!(seen.bodies);
    }
    println!("{summary}");
    if let Some(path) = &plan.json_path
        && path != "-"
        && let Err(error) = std::fs::write(path, format!("{summary}\n"))
    {
        eprintln!("fortio: cannot write {path}: {error}");
    }
}

/// The value below which `wanted` percent of the sorted times lie; 0 without times.
fn percentile(sorted: &[f64], wanted: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let fraction = (wanted / 100.0).clamp(0.0, 1.0);
    let position = Duration::from_secs(u64::try_from(last).unwrap_or(0)).mul_f64(fraction).as_secs_f64().round();
    let index = sorted.iter().enumerate().map(|(index, _)| index).find(|index| f64::from(u32::try_from(*index).unwrap_or(u32::MAX)) >= position);
    index.and_then(|index| sorted.get(index)).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentile_of_a_ramp() {
        let ramp: Vec<f64> = (0..=100).map(f64::from).collect();
        assert!((percentile(&ramp, 50.0) - 50.0).abs() < 1e-9);
        assert!((percentile(&ramp, 99.0) - 99.0).abs() < 1e-9);
        assert!((percentile(&[], 99.0)).abs() < 1e-9);
    }
}
