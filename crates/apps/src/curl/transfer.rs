//! One exchange: request, redirects, answer to standard output or a file.
//!
//! - Reads: a URL (`http://` is put before one without a scheme) and the options.
//! - Rule: a connection is kept for the next URL of the same scheme, host and port, as curl does.
//! - Limits: the body streams; nothing of it is kept. Trailers are not shown.

use std::{
    io::Write,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::{
    Failure,
    connect::{self, Opened},
    options::{Options, Version},
};

/// What `-w` can tell about a transfer. Times count from its start.
pub(crate) struct Report {
    pub(crate) url: String,
    pub(crate) url_effective: String,
    pub(crate) method: String,
    pub(crate) scheme: String,
    pub(crate) started: Instant,
    pub(crate) status: u16,
    pub(crate) http_version: &'static str,
    pub(crate) headers: HeaderMap,
    pub(crate) redirect_url: String,
    pub(crate) redirects: usize,
    pub(crate) connects: u32,
    pub(crate) size_download: u64,
    pub(crate) size_upload: usize,
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) time_namelookup: Duration,
    pub(crate) time_connect: Duration,
    pub(crate) time_appconnect: Duration,
    pub(crate) time_pretransfer: Duration,
    pub(crate) time_starttransfer: Duration,
    pub(crate) time_total: Duration,
    pub(crate) exit_code: u8,
}

impl Report {
    /// A report before anything happened.
    pub(crate) fn new(url: &str, started: Instant) -> Self {
        Self {
            url: url.to_owned(),
            url_effective: url.to_owned(),
            method: String::new(),
            scheme: String::new(),
            started,
            status: 0,
            http_version: "0",
            headers: HeaderMap::new(),
            redirect_url: String::new(),
            redirects: 0,
            connects: 0,
            size_download: 0,
            size_upload: 0,
            remote: None,
            local: None,
            time_namelookup: Duration::ZERO,
            time_connect: Duration::ZERO,
            time_appconnect: Duration::ZERO,
            time_pretransfer: Duration::ZERO,
            time_starttransfer: Duration::ZERO,
            time_total: Duration::ZERO,
            exit_code: 0,
        }
    }
}

/// The connection kept between URLs.
#[derive(Default)]
pub(crate) struct Client {
    kept: Option<Kept>,
}

struct Kept {
    scheme: String,
    authority: String,
    sender: Sender,
    reset: Arc<AtomicBool>,
}

enum Sender {
    Http1(hyper::client::conn::http1::SendRequest<Full<Bytes>>),
    Http2(hyper::client::conn::http2::SendRequest<Full<Bytes>>),
}

impl Client {
    /// Forgets the kept connection.
    pub(crate) fn close(&mut self) {
        self.kept = None;
    }
}

/// Fetches one URL with its redirects.
///
/// # Errors
/// curl's exit codes.
pub(crate) async fn fetch(client: &mut Client, options: &Options, url: &str, report: &mut Report) -> Result<(), Failure> {
    let mut uri = uri(url)?;
    let mut method = method(options)?;
    let mut body = if options.data_in_query { None } else { options.data.clone() };
    if options.data_in_query && let Some(data) = &options.data {
        uri = with_query(&uri, data)?;
    }
    loop {
        report.url_effective = uri.to_string();
        report.method = method.to_string();
        let response = exchange(client, options, &uri, &method, body.as_deref(), report).await?;
        let status = response.status();
        report.redirect_url = location(&uri, response.headers()).map(|uri| uri.to_string()).unwrap_or_default();
        let next = if options.follow && status.is_redirection() { location(&uri, response.headers()) } else { None };
        let Some(next) = next else { return receive(client, options, response, report).await };
        if report.redirects >= options.redirects_max {
            return Err(Failure::new(47, format!("Maximum ({}) redirects followed", options.redirects_max)));
        }
        if options.include || options.head {
            show_head(options, &response)?;
        }
        // The connection is only reusable once the body was read.
        if response.into_body().collect().await.is_err() {
            client.close();
        }
        report.redirects += 1;
        if matches!(status.as_u16(), 301..=303) && method == Method::POST && options.method.is_none() {
            method = Method::GET;
            body = None;
        }
        uri = next;
    }
}

fn uri(url: &str) -> Result<Uri, Failure> {
    let full = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let malformed = || Failure::new(3, "URL rejected: Malformed input to a URL function");
    let without_fragment = full.split('#').next().unwrap_or(&full);
    let uri: Uri = without_fragment.parse().map_err(|_| malformed())?;
    match uri.scheme_str() {
        Some("http" | "https") => {}
        Some(other) => return Err(Failure::new(1, format!("Protocol \"{other}\" not supported"))),
        None => return Err(malformed()),
    }
    if uri.host().is_none_or(str::is_empty) { Err(Failure::new(3, "URL rejected: No host part in the URL")) } else { Ok(uri) }
}

fn method(options: &Options) -> Result<Method, Failure> {
    let name = match &options.method {
        Some(method) => method.as_str(),
        None if options.head => "HEAD",
        None if options.data.is_some() && !options.data_in_query => "POST",
        None => "GET",
    };
    Method::from_bytes(name.as_bytes()).map_err(|_| Failure::new(43, format!("bad method `{name}`")))
}

fn with_query(uri: &Uri, data: &[u8]) -> Result<Uri, Failure> {
    let joint = if uri.query().is_some() { '&' } else { '?' };
    format!("{uri}{joint}{}", String::from_utf8_lossy(data)).parse().map_err(|_| Failure::new(3, "URL rejected: Malformed input to a URL function"))
}

fn location(base: &Uri, headers: &HeaderMap) -> Option<Uri> {
    let location = headers.get(header::LOCATION)?.to_str().ok()?;
    if location.contains("://") {
        return location.parse().ok();
    }
    let path = if location.starts_with('/') {
        location.to_owned()
    } else {
        let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{folder}/{location}")
    };
    format!("{}://{}{path}", base.scheme_str()?, base.authority()?).parse().ok()
}

async fn exchange(
    client: &mut Client,
    options: &Options,
    uri: &Uri,
    method: &Method,
    body: Option<&[u8]>,
    report: &mut Report,
) -> Result<Response<Incoming>, Failure> {
    let scheme = uri.scheme_str().unwrap_or("http").to_owned();
    let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
    report.scheme = scheme.to_ascii_uppercase();
    let reusable = client.kept.take_if(|kept| kept.scheme != scheme || kept.authority != authority || kept.sender.is_closed()).is_none()
        && client.kept.is_some();
    if !reusable {
        client.kept = Some(dial(options, uri, &scheme, &authority, report).await?);
    }
    let Some(kept) = client.kept.as_mut() else { return Err(Failure::new(2, "no connection")) };
    report.time_pretransfer = report.started.elapsed();
    let http2 = matches!(kept.sender, Sender::Http2(_));
    let request = request(options, uri, method, body, http2)?;
    report.size_upload = body.map_or(0, <[u8]>::len);
    if options.verbose {
        show_request(&request, http2);
    }
    let reset = Arc::clone(&kept.reset);
    let answer = match &mut kept.sender {
        Sender::Http1(sender) => match sender.ready().await {
            Ok(()) => sender.send_request(request).await,
            Err(error) => Err(error),
        },
        Sender::Http2(sender) => match sender.ready().await {
            Ok(()) => sender.send_request(request).await,
            Err(error) => Err(error),
        },
    };
    match answer {
        Ok(response) => {
            report.time_starttransfer = report.started.elapsed();
            report.status = response.status().as_u16();
            report.http_version = version_number(response.version());
            report.headers = response.headers().clone();
            Ok(response)
        }
        Err(error) => {
            client.close();
            Err(exchange_failure(&error, &reset, http2))
        }
    }
}

impl Sender {
    fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed(),
            Self::Http2(sender) => sender.is_closed(),
        }
    }
}

fn exchange_failure(error: &hyper::Error, reset: &AtomicBool, http2: bool) -> Failure {
    if reset.load(Ordering::Relaxed) {
        return Failure::new(56, "Recv failure: Connection reset by peer");
    }
    if error.is_parse() {
        return Failure::new(1, format!("Received HTTP/0.9 when not allowed ({error})"));
    }
    if http2 {
        return Failure::new(16, format!("Error in the HTTP2 framing layer: {error}"));
    }
    Failure::new(52, "Empty reply from server")
}

async fn dial(options: &Options, uri: &Uri, scheme: &str, authority: &str, report: &mut Report) -> Result<Kept, Failure> {
    let host = uri.host().unwrap_or_default().to_owned();
    let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    let Opened { stream, http2 } = connect::open(options, scheme, &host, port, report).await?;
    let reset = Arc::clone(&stream.reset);
    let io = TokioIo::new(stream);
    let broken = |error: hyper::Error| Failure::new(56, format!("Recv failure: {error}"));
    let sender = if http2 {
        let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.map_err(broken)?;
        // The connection's error also reaches the sender, which reports it.
        tokio::spawn(connection);
        Sender::Http2(sender)
    } else {
        let mut builder = hyper::client::conn::http1::Builder::new();
        builder.title_case_headers(true);
        let (sender, connection) = builder.handshake(io).await.map_err(broken)?;
        tokio::spawn(connection.with_upgrades());
        Sender::Http1(sender)
    };
    Ok(Kept { scheme: scheme.to_owned(), authority: authority.to_owned(), sender, reset })
}

fn request(options: &Options, uri: &Uri, method: &Method, body: Option<&[u8]>, http2: bool) -> Result<Request<Full<Bytes>>, Failure> {
    let mut headers = HeaderMap::new();
    if !http2 && let Some(authority) = uri.authority() {
        let host = authority.as_str().rsplit('@').next().unwrap_or(authority.as_str());
        insert(&mut headers, "host", host)?;
    }
    insert(&mut headers, "user-agent", options.user_agent.as_deref().unwrap_or("curl/8.10.0"))?;
    insert(&mut headers, "accept", if options.json { "application/json" } else { "*/*" })?;
    if let Some(user) = &options.user {
        let user = if user.contains(':') { user.clone() } else { format!("{user}:") };
        insert(&mut headers, "authorization", &format!("Basic {}", base64(user.as_bytes())))?;
    }
    for (name, value) in [("referer", &options.referer), ("cookie", &options.cookie)] {
        if let Some(value) = value {
            insert(&mut headers, name, value)?;
        }
    }
    if let Some(range) = &options.range {
        insert(&mut headers, "range", &format!("bytes={range}"))?;
    }
    if body.is_some() {
        insert(&mut headers, "content-type", if options.json { "application/json" } else { "application/x-www-form-urlencoded" })?;
    }
    let mut authority = None;
    user_headers(options, &mut headers, http2, &mut authority)?;
    let target = match (http2, authority) {
        (false, _) => uri.path_and_query().map_or("/", |path| path.as_str()).parse(),
        (true, None) => Ok(uri.clone()),
        (true, Some(authority)) => {
            let path = uri.path_and_query().map_or("/", |path| path.as_str());
            format!("{}://{authority}{path}", uri.scheme_str().unwrap_or("http")).parse()
        }
    };
    let target: Uri = target.map_err(|_| Failure::new(3, "URL rejected: Malformed input to a URL function"))?;
    let mut request = Request::new(Full::new(Bytes::copy_from_slice(body.unwrap_or_default())));
    *request.method_mut() = method.clone();
    *request.uri_mut() = target;
    *request.headers_mut() = headers;
    *request.version_mut() = match options.version {
        Version::Http10 => http::Version::HTTP_10,
        _ if http2 => http::Version::HTTP_2,
        _ => http::Version::HTTP_11,
    };
    Ok(request)
}

/// `-H`: `Name: value` replaces what curl would send, `Name:` removes it, `Name;` sends it empty.
fn user_headers(options: &Options, headers: &mut HeaderMap, http2: bool, authority: &mut Option<String>) -> Result<(), Failure> {
    let mut replaced: Vec<HeaderName> = Vec::new();
    for line in &options.headers {
        let (name, value) = match (line.split_once(':'), line.strip_suffix(';')) {
            (Some((name, value)), _) => (name.trim(), Some(value.trim()).filter(|value| !value.is_empty())),
            (None, Some(name)) => (name.trim(), Some("")),
            (None, None) => continue,
        };
        let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Failure::new(43, format!("bad header name `{name}`")))?;
        if http2 && parsed == header::HOST {
            *authority = value.map(str::to_owned);
            continue;
        }
        if !replaced.contains(&parsed) {
            headers.remove(&parsed);
            replaced.push(parsed.clone());
        }
        if let Some(value) = value {
            headers.append(parsed, HeaderValue::from_bytes(value.as_bytes()).map_err(|_| Failure::new(43, format!("bad value of header `{name}`")))?);
        }
    }
    Ok(())
}

fn insert(headers: &mut HeaderMap, name: &'static str, value: &str) -> Result<(), Failure> {
    let value = HeaderValue::from_str(value).map_err(|_| Failure::new(43, format!("bad value of header `{name}`")))?;
    headers.insert(name, value);
    Ok(())
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| (word << 8) | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for index in 0..4usize {
            let digit = usize::try_from((word >> (18 - 6 * index)) & 63).unwrap_or(0);
            let letter = ALPHABET.get(digit).copied().unwrap_or(b'=');
            text.push(if index <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

/// Head and body to where the options want them.
async fn receive(client: &mut Client, options: &Options, response: Response<Incoming>, report: &mut Report) -> Result<(), Failure> {
    let status = response.status();
    let refused = status.is_client_error() || status.is_server_error();
    let failed = Failure::new(22, format!("The requested URL returned error: {}", status.as_u16()));
    if options.verbose {
        eprint!("{}", head_text(&response, "< "));
    }
    if options.fail && refused {
        client.close();
        return Err(failed);
    }
    if options.include || options.head {
        show_head(options, &response)?;
    }
    if let Some(path) = &options.dump_header {
        let mut file = output(path)?;
        write(&mut *file, head_text(&response, "").as_bytes())?;
    }
    let mut to = output(options.output.first().map_or("-", String::as_str))?;
    let reset = client.kept.as_ref().map(|kept| Arc::clone(&kept.reset));
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        let frame = match frame {
            Ok(frame) => frame,
            Err(_) => {
                client.close();
                let was_reset = reset.is_some_and(|reset| reset.load(Ordering::Relaxed));
                return Err(if was_reset {
                    Failure::new(56, "Recv failure: Connection reset by peer")
                } else {
                    Failure::new(18, "transfer closed with outstanding read data remaining")
                });
            }
        };
        if let Some(data) = frame.data_ref() {
            report.size_download += u64::try_from(data.len()).unwrap_or(0);
            write(&mut *to, data)?;
        }
    }
    if options.fail_with_body && refused { Err(failed) } else { Ok(()) }
}

fn output(path: &str) -> Result<Box<dyn Write>, Failure> {
    Ok(match path {
        "-" => Box::new(std::io::stdout()),
        _ => Box::new(
            std::fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(path != "/dev/null")
                .open(path)
                .map_err(|error| Failure::new(23, format!("Failed to open the file {path}: {error}")))?,
        ),
    })
}

fn write(to: &mut dyn Write, bytes: &[u8]) -> Result<(), Failure> {
    to.write_all(bytes).and_then(|()| to.flush()).map_err(|error| Failure::new(23, format!("Failure writing output to destination: {error}")))
}

fn show_head(options: &Options, response: &Response<Incoming>) -> Result<(), Failure> {
    let mut to = output(options.output.first().map_or("-", String::as_str))?;
    write(&mut *to, head_text(response, "").as_bytes())
}

fn head_text(response: &Response<Incoming>, prefix: &str) -> String {
    let reason = response.status().canonical_reason().filter(|_| response.version() < http::Version::HTTP_2).unwrap_or("");
    let mut text = format!("{prefix}HTTP/{} {} {reason}\r\n", version_number(response.version()), response.status().as_u16());
    for (name, value) in response.headers() {
        text.push_str(&format!("{prefix}{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes())));
    }
    text.push_str(prefix.trim_end());
    text.push_str("\r\n");
    text
}

fn show_request(request: &Request<Full<Bytes>>, http2: bool) {
    let version = if http2 { "2" } else { version_number(request.version()) };
    let target = request.uri().path_and_query().map_or("/", |path| path.as_str());
    eprintln!("> {} {target} HTTP/{version}", request.method());
    for (name, value) in request.headers() {
        eprintln!("> {name}: {}", String::from_utf8_lossy(value.as_bytes()));
    }
    eprintln!(">");
}

fn version_number(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_09 => "0.9",
        http::Version::HTTP_10 => "1.0",
        http::Version::HTTP_2 => "2",
        http::Version::HTTP_3 => "3",
        _ => "1.1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_without_scheme_is_http() {
        assert_eq!(uri("backend:80/x").expect("valid").to_string(), "http://backend:80/x");
        assert_eq!(uri("ftp://a").err().map(|failure| failure.code), Some(1));
        assert_eq!(uri("http://").err().map(|failure| failure.code), Some(3));
    }

    #[test]
    fn base64_pads() {
        assert_eq!(base64(b"a:b"), "YTpi");
        assert_eq!(base64(b"ab"), "YWI=");
        assert_eq!(base64(b"a"), "YQ==");
    }

    #[test]
    fn user_header_replaces_or_removes() {
        let options = Options { headers: vec!["Host: shop".to_owned(), "Accept:".to_owned(), "x-a: 1".to_owned(), "x-a: 2".to_owned()], ..Options::default() };
        let request = request(&options, &uri("http://10.0.0.1/").expect("valid"), &Method::GET, None, false).expect("valid");
        assert_eq!(request.headers().get("host").map(HeaderValue::as_bytes), Some(&b"shop"[..]));
        assert!(request.headers().get("accept").is_none());
        assert_eq!(request.headers().get_all("x-a").iter().count(), 2);
    }
}
