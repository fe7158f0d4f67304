//! A proxy from a bootstrap, an origin that does as told, a client that sees bytes.
//!
//! - Rule: every wait has an end, and running out of it fails the test with what was seen so far.

use lateen_proxy::bootstrap::Bootstrap;
use lateen_proxy::{ProxyOptions, Running};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// No step of a test takes this long.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// One request or answer taken apart.
#[derive(Debug, Clone, Default)]
pub struct Message {
    pub start: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The connection ended before the message was complete.
    pub cut: bool,
}

impl Message {
    pub fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0)
    }
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection with what was read and not used.
pub struct Conn {
    pub stream: TcpStream,
    pub unread: Vec<u8>,
}

impl Conn {
    pub fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Conn { stream, unread: Vec::new() }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// Reads more; false at the end.
    pub fn more(&mut self) -> bool {
        let mut buffer = [0; 65536];
        match self.stream.read(&mut buffer) {
            Ok(0) | Err(_) => false,
            Ok(n) => {
                self.unread.extend_from_slice(&buffer[..n]);
                true
            }
        }
    }

    fn head(&mut self) -> Option<Message> {
        let end = loop {
            if let Some(at) = self.unread.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.more() {
                return None;
            }
        };
        let text = String::from_utf8_lossy(&self.unread.drain(..end).collect::<Vec<_>>()).into_owned();
        let mut lines = text.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let headers = lines.filter_map(|l| l.split_once(':')).map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned())).collect();
        Some(Message { start, headers, ..Message::default() })
    }

    /// The head of the next message alone.
    pub fn read_head(&mut self) -> Option<Message> {
        self.head()
    }

    /// The next whole message. `bodiless`: an answer to HEAD.
    pub fn read(&mut self, bodiless: bool) -> Option<Message> {
        let mut message = self.head()?;
        let informational = message.start.starts_with("HTTP/") && (100..200).contains(&message.status());
        if bodiless || informational || message.status() == 304 || message.status() == 204 {
            return Some(message);
        }
        if message.header("transfer-encoding") == Some("chunked") {
            self.chunked(&mut message);
        } else if let Some(length) = message.header("content-length").and_then(|l| l.parse::<usize>().ok()) {
            while self.unread.len() < length && self.more() {}
            message.cut = self.unread.len() < length;
            message.body = self.unread.drain(..length.min(self.unread.len())).collect();
        } else if message.start.starts_with("HTTP/") {
            while self.more() {}
            message.body = std::mem::take(&mut self.unread);
        }
        Some(message)
    }

    fn chunked(&mut self, message: &mut Message) {
        loop {
            let line = loop {
                if let Some(at) = self.unread.windows(2).position(|w| w == b"\r\n") {
                    break String::from_utf8_lossy(&self.unread.drain(..at + 2).collect::<Vec<_>>()).trim().to_owned();
                }
                if !self.more() {
                    message.cut = true;
                    return;
                }
            };
            let Ok(size) = usize::from_str_radix(line.split(';').next().unwrap_or_default(), 16) else { panic!("chunk size {line:?}") };
            if size == 0 {
                // Trailers, then an empty line.
                loop {
                    while !self.unread.windows(2).any(|w| w == b"\r\n") {
                        if !self.more() {
                            message.cut = true;
                            return;
                        }
                    }
                    let at = self.unread.windows(2).position(|w| w == b"\r\n").unwrap();
                    let line = String::from_utf8_lossy(&self.unread.drain(..at + 2).collect::<Vec<_>>()).trim().to_owned();
                    match line.split_once(':') {
                        Some((n, v)) => message.headers.push((format!("trailer {n}"), v.trim().to_owned())),
                        None => return,
                    }
                }
            }
            while self.unread.len() < size + 2 {
                if !self.more() {
                    message.cut = true;
                    message.body.append(&mut self.unread);
                    return;
                }
            }
            message.body.extend(self.unread.drain(..size + 2).take(size));
        }
    }

    /// True when the other side closes within the test's patience.
    pub fn closed(&mut self) -> bool {
        self.more().then(|| while self.more() {});
        matches!(self.stream.read(&mut [0; 1]), Ok(0) | Err(_))
    }
}

/// A server that runs `serve` for each connection.
pub struct Origin {
    pub address: SocketAddr,
    pub requests: Arc<AtomicUsize>,
    pub seen: Arc<Mutex<Vec<Message>>>,
    pub connections: Arc<AtomicUsize>,
}

impl Origin {
    /// Runs `serve` on each connection.
    pub fn raw(serve: impl Fn(&mut Conn) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (serve, connections) = (Arc::new(serve), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&connections);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serve = Arc::clone(&serve);
                count.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || serve(&mut Conn::new(stream)));
            }
        });
        Origin { address, requests: Arc::default(), seen: Arc::default(), connections }
    }

    /// Answers each request with what `answer` makes of it and its number (from 1); keeps the connection while the answer is not empty.
    pub fn answering(answer: impl Fn(&Message, usize) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let requests = Arc::new(AtomicUsize::new(0));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (count, log) = (Arc::clone(&requests), Arc::clone(&seen));
        let origin = Self::raw(move |conn| {
            while let Some(request) = conn.read(false) {
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                log.lock().unwrap().push(request.clone());
                let bytes = answer(&request, number);
                if bytes.is_empty() {
                    return;
                }
                conn.send(bytes);
            }
        });
        Origin { requests, seen, ..origin }
    }

    /// Answers `200` with a text.
    pub fn saying(text: &'static str) -> Self {
        Self::answering(move |_, _| ok(text))
    }

    pub fn count(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Waits for `count` requests.
    pub fn wait_for(&self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.count() < count {
            assert!(Instant::now() < deadline, "origin has {} requests, not {count}", self.count());
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }

    pub fn last(&self) -> Message {
        self.seen.lock().unwrap().last().cloned().unwrap()
    }
}

/// A `200` answer with a body.
pub fn ok(body: &str) -> Vec<u8> {
    answer(200, body)
}

pub fn answer(status: u16, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// An address where nobody listens.
pub fn refused() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// What a test's proxy is made of.
#[derive(Default)]
pub struct Setup {
    pub clusters: Vec<Value>,
    pub routes: Vec<Value>,
    pub filters: Vec<Value>,
    pub hcm: Value,
    pub virtual_host: Value,
    pub listener: Value,
}

/// A running proxy with its log.
pub struct Proxy {
    running: Option<Running>,
    pub address: SocketAddr,
    log: std::path::PathBuf,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.shutdown();
        }
        let _ = std::fs::remove_file(&self.log);
    }
}

fn merge(into: &mut Value, from: &Value) {
    if let (Some(into), Some(from)) = (into.as_object_mut(), from.as_object()) {
        into.extend(from.iter().map(|(k, v)| (k.clone(), v.clone())));
    }
}

/// A static cluster of these endpoints.
pub fn cluster(name: &str, endpoints: &[SocketAddr], more: Value) -> Value {
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|a| json!({"endpoint": {"address": {"socket_address": {"address": a.ip().to_string(), "port_value": a.port()}}}}))
        .collect();
    let mut cluster = json!({
        "name": name, "type": "STATIC", "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
    });
    merge(&mut cluster, &more);
    cluster
}

/// A route of everything under `prefix` to `cluster`; `action` adds to the route action.
pub fn to(prefix: &str, cluster: &str, action: Value) -> Value {
    let mut route = json!({"cluster": cluster});
    merge(&mut route, &action);
    json!({"match": {"prefix": prefix}, "route": route})
}

static NUMBER: AtomicUsize = AtomicUsize::new(0);

impl Setup {
    /// Everything goes to one origin.
    pub fn one(origin: SocketAddr) -> Self {
        Setup { clusters: vec![cluster("o", &[origin], json!({}))], routes: vec![to("/", "o", json!({}))], ..Setup::default() }
    }

    pub fn start(self) -> Proxy {
        let log = std::env::temp_dir().join(format!("lateen-http-{}-{}.log", std::process::id(), NUMBER.fetch_add(1, Ordering::SeqCst)));
        let mut filters = self.filters;
        filters.push(json!({"name": "router", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}));
        let mut virtual_host = json!({"name": "v", "domains": ["*"], "routes": self.routes});
        merge(&mut virtual_host, &self.virtual_host);
        let format = "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %BYTES_RECEIVED% %BYTES_SENT% %REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %UPSTREAM_CLUSTER% %PROTOCOL%\n";
        let mut hcm = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "t", "http_filters": filters, "normalize_path": true, "server_name": "istio-envoy",
            "upgrade_configs": [{"upgrade_type": "websocket"}], "stream_idle_timeout": "0s",
            "route_config": {"name": "r", "virtual_hosts": [virtual_host], "validate_clusters": false},
            "access_log": [{"name": "f", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                "path": log.to_string_lossy(), "log_format": {"text_format_source": {"inline_string": format}}}}],
        });
        merge(&mut hcm, &self.hcm);
        let mut listener = json!({
            "name": "l", "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
            "filter_chains": [{"filters": [{"name": "hcm", "typed_config": hcm}]}],
        });
        merge(&mut listener, &self.listener);
        let bootstrap = json!({
            "node": {"id": "sidecar~1", "cluster": "c", "metadata": {"NAMESPACE": "ns", "WORKLOAD_NAME": "w"}},
            "static_resources": {
                "clusters": self.clusters,
                "listeners": [listener],
            },
        });
        let bootstrap = Bootstrap::from_text(&bootstrap.to_string()).unwrap();
        let options = ProxyOptions { concurrency: 1, handle_signals: false, drain_time: Duration::ZERO, ..ProxyOptions::new(bootstrap) };
        let running = lateen_proxy::run(options).unwrap();
        let address = running.listening().iter().find(|(name, _)| name == "l").map(|(_, address)| *address).unwrap();
        Proxy { running: Some(running), address, log }
    }
}

impl Proxy {
    pub fn connect(&self) -> Conn {
        Conn::new(TcpStream::connect(self.address).unwrap())
    }

    /// One request on a connection of its own.
    pub fn send(&self, bytes: impl AsRef<[u8]>) -> Message {
        let mut conn = self.connect();
        conn.send(bytes);
        conn.read(false).unwrap()
    }

    /// `GET path` with more header lines.
    pub fn get(&self, path: &str, headers: &str) -> Message {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: h\r\n{headers}\r\n"))
    }

    /// Waits for the log to hold `count` lines, and gives them.
    pub fn log(&self, count: usize) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = std::fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            if lines.len() >= count {
                return lines;
            }
            assert!(Instant::now() < deadline, "log has {lines:?}, not {count} lines");
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    /// Status, flags and details of the only line.
    pub fn logged(&self) -> String {
        self.log(1)[0].split(' ').take(3).collect::<Vec<_>>().join(" ")
    }
}

/// A filter with its settings.
pub fn filter(name: &str, kind: &str, mut config: Value) -> Value {
    config["@type"] = json!(format!("type.googleapis.com/{kind}"));
    json!({"name": name, "typed_config": config})
}
