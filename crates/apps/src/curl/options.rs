//! curl's options.
//!
//! - Reads: short options, which may be joined (`-sSo/dev/null`), and long ones.
//! - Rule: an unknown option is an error, exit code 2, in curl's words.
//! - Limits: see `--help`; `-F`, `-x`, `-T`, `-K` and globbing of URLs are not there.

use std::{net::IpAddr, time::Duration};

use super::Failure;

/// Which HTTP version to speak.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Version {
    /// HTTP/1.1, or over TLS what ALPN decides.
    #[default]
    Any,
    /// `-0`.
    Http10,
    /// `--http1.1`.
    Http11,
    /// `--http2-prior-knowledge`; over TLS `--http2` means the same as [`Version::Any`].
    Http2,
}

/// Address family wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Family {
    /// Either.
    #[default]
    Any,
    /// `-4`.
    V4,
    /// `-6`.
    V6,
}

/// All options of one command line.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) urls: Vec<String>,
    pub(crate) information: Option<&'static str>,
    pub(crate) silent: bool,
    pub(crate) show_error: bool,
    pub(crate) fail: bool,
    pub(crate) fail_with_body: bool,
    pub(crate) include: bool,
    pub(crate) head: bool,
    pub(crate) verbose: bool,
    pub(crate) follow: bool,
    pub(crate) redirects_max: usize,
    pub(crate) insecure: bool,
    pub(crate) method: Option<String>,
    pub(crate) headers: Vec<String>,
    pub(crate) data: Option<Vec<u8>>,
    pub(crate) data_in_query: bool,
    pub(crate) json: bool,
    pub(crate) user: Option<String>,
    pub(crate) user_agent: Option<String>,
    pub(crate) referer: Option<String>,
    pub(crate) cookie: Option<String>,
    pub(crate) range: Option<String>,
    pub(crate) output: Vec<String>,
    pub(crate) dump_header: Option<String>,
    pub(crate) write_out: Option<String>,
    pub(crate) max_time: Option<Duration>,
    pub(crate) connect_timeout: Option<Duration>,
    /// Host, port, address.
    pub(crate) resolve: Vec<(String, u16, IpAddr)>,
    /// Host, port (either may be empty: any), to host, to port.
    pub(crate) connect_to: Vec<[String; 4]>,
    pub(crate) version: Version,
    pub(crate) family: Family,
    pub(crate) ca_file: Option<String>,
    pub(crate) cert_file: Option<String>,
    pub(crate) key_file: Option<String>,
    pub(crate) unix_socket: Option<String>,
    pub(crate) path_as_is: bool,
    pub(crate) retries: u32,
    pub(crate) retry_delay: Option<Duration>,
    pub(crate) retry_all_errors: bool,
    pub(crate) retry_refused: bool,
}

impl Options {
    /// Whether `--retry` applies to this outcome.
    pub(crate) fn is_transient(&self, failure: Option<&Failure>, status: u16) -> bool {
        let by_status = matches!(status, 408 | 429 | 500 | 502 | 503 | 504);
        match failure {
            None => by_status,
            Some(failure) => {
                self.retry_all_errors
                    || (failure.code == 22 && by_status)
                    || matches!(failure.code, 6 | 28)
                    || (failure.code == 7 && self.retry_refused)
            }
        }
    }
}

const HELP: &str = "\
Usage: curl [options...] <url>
A stand-in for curl inside a mesh. Options:
 -0, --http1.0, --http1.1, --http2, --http2-prior-knowledge, -4, -6
 -A, --user-agent   -b, --cookie   -e, --referer   -H, --header   -u, --user   -r, --range
 -d, --data, --data-ascii, --data-binary, --data-raw, --data-urlencode, --json, -G, --get
 -f, --fail, --fail-with-body   -i, --include   -I, --head   -X, --request   -D, --dump-header
 -k, --insecure   --cacert   -E, --cert   --key   -L, --location   --max-redirs
 -m, --max-time   --connect-timeout   --retry, --retry-delay, --retry-all-errors, --retry-connrefused
 -o, --output   -w, --write-out   -s, --silent   -S, --show-error   -v, --verbose   -N   -#
 --resolve HOST:PORT:ADDRESS   --connect-to H1:P1:H2:P2   --unix-socket   --path-as-is   -V, --version
";
const VERSION: &str = "curl 8.10.0 (lateen stand-in)\nProtocols: http https\nFeatures: HTTP2 SSL UnixSockets\n";

/// Options that take a value: short name (or a space) and long name.
const VALUED: &[(char, &str)] = &[
    ('A', "user-agent"), ('b', "cookie"), ('e', "referer"), ('H', "header"), ('u', "user"), ('r', "range"), ('d', "data"),
    (' ', "data-ascii"), (' ', "data-binary"), (' ', "data-raw"), (' ', "data-urlencode"), (' ', "json"), ('X', "request"),
    ('D', "dump-header"), (' ', "cacert"), ('E', "cert"), (' ', "key"), (' ', "max-redirs"), ('m', "max-time"),
    (' ', "connect-timeout"), (' ', "retry"), (' ', "retry-delay"), (' ', "retry-max-time"), ('o', "output"), ('w', "write-out"),
    (' ', "resolve"), (' ', "connect-to"), (' ', "unix-socket"), (' ', "url"),
];

/// Options without a value.
const PLAIN: &[(char, &str)] = &[
    ('0', "http1.0"), (' ', "http1.1"), (' ', "http2"), (' ', "http2-prior-knowledge"), ('4', "ipv4"), ('6', "ipv6"), ('G', "get"),
    ('f', "fail"), (' ', "fail-with-body"), ('i', "include"), (' ', "show-headers"), ('I', "head"), ('k', "insecure"), ('L', "location"),
    (' ', "retry-all-errors"), (' ', "retry-connrefused"), ('s', "silent"), ('S', "show-error"), ('v', "verbose"), ('N', "no-buffer"),
    ('#', "progress-bar"), (' ', "no-progress-meter"), (' ', "path-as-is"), ('V', "version"), ('h', "help"), ('q', "disable"),
    (' ', "no-keepalive"), (' ', "tcp-nodelay"), ('g', "globoff"),
];

/// Reads a command line.
///
/// # Errors
/// Exit code 2, or 3 for a bad URL, with curl's text.
pub(crate) fn parse(args: &[String]) -> Result<Options, Failure> {
    let mut options = Options { redirects_max: 50, ..Options::default() };
    let mut words = args.iter();
    let mut only_urls = false;
    while let Some(word) = words.next() {
        if only_urls || word == "-" || !word.starts_with('-') {
            options.urls.push(word.clone());
        } else if word == "--" {
            only_urls = true;
        } else if let Some(long) = word.strip_prefix("--") {
            if VALUED.iter().any(|(_, name)| *name == long) {
                let value = words.next().ok_or_else(|| needs_value(word))?;
                valued(&mut options, long, value)?;
            } else if PLAIN.iter().any(|(_, name)| *name == long) {
                plain(&mut options, long);
            } else {
                return Err(Failure::new(2, format!("option {word}: is unknown")));
            }
        } else {
            short(&mut options, word, &mut words)?;
        }
    }
    if options.urls.is_empty() && options.information.is_none() {
        return Err(Failure::new(2, "no URL specified!"));
    }
    Ok(options)
}

fn needs_value(word: &str) -> Failure {
    Failure::new(2, format!("option {word}: requires parameter"))
}

/// One word of joined short options; the first that takes a value takes the rest of the word or the next word.
fn short<'a>(options: &mut Options, word: &str, words: &mut impl Iterator<Item = &'a String>) -> Result<(), Failure> {
    let mut letters = word.chars().skip(1);
    while let Some(letter) = letters.next() {
        if let Some((_, name)) = VALUED.iter().find(|(short, _)| *short == letter) {
            let rest: String = letters.collect();
            let value = if rest.is_empty() { words.next().cloned().ok_or_else(|| needs_value(&format!("-{letter}")))? } else { rest };
            return valued(options, name, &value);
        }
        let Some((_, name)) = PLAIN.iter().find(|(short, _)| *short == letter && letter != ' ') else {
            return Err(Failure::new(2, format!("option -{letter}: is unknown")));
        };
        plain(options, name);
    }
    Ok(())
}

fn plain(options: &mut Options, name: &str) {
    match name {
        "http1.0" => options.version = Version::Http10,
        "http1.1" => options.version = Version::Http11,
        "http2" => options.version = Version::Any,
        "http2-prior-knowledge" => options.version = Version::Http2,
        "ipv4" => options.family = Family::V4,
        "ipv6" => options.family = Family::V6,
        "get" => options.data_in_query = true,
        "fail" => options.fail = true,
        "fail-with-body" => options.fail_with_body = true,
        "include" | "show-headers" => options.include = true,
        "head" => options.head = true,
        "insecure" => options.insecure = true,
        "location" => options.follow = true,
        "retry-all-errors" => options.retry_all_errors = true,
        "retry-connrefused" => options.retry_refused = true,
        "silent" => options.silent = true,
        "show-error" => options.show_error = true,
        "verbose" => options.verbose = true,
        "path-as-is" => options.path_as_is = true,
        "version" => options.information = Some(VERSION),
        "help" => options.information = Some(HELP),
        // Nothing to turn off or on: output is never buffered, there is no progress meter and no configuration file.
        _ => {}
    }
}

fn valued(options: &mut Options, name: &str, value: &str) -> Result<(), Failure> {
    let owned = || Some(value.to_owned());
    match name {
        "user-agent" => options.user_agent = owned(),
        "cookie" => options.cookie = owned(),
        "referer" => options.referer = owned(),
        "header" => options.headers.extend(header_lines(value)?),
        "user" => options.user = owned(),
        "range" => options.range = owned(),
        "data" | "data-ascii" | "data-binary" | "data-raw" | "data-urlencode" | "json" => add_data(options, name, value)?,
        "request" => options.method = owned(),
        "dump-header" => options.dump_header = owned(),
        "cacert" => options.ca_file = owned(),
        "cert" => options.cert_file = owned(),
        "key" => options.key_file = owned(),
        "max-redirs" => options.redirects_max = value.parse().map_err(|_| bad_number(name))?,
        "max-time" => options.max_time = Some(seconds(name, value)?),
        "connect-timeout" => options.connect_timeout = Some(seconds(name, value)?),
        "retry" => options.retries = value.parse().map_err(|_| bad_number(name))?,
        "retry-delay" => options.retry_delay = Some(seconds(name, value)?),
        "retry-max-time" => {
            seconds(name, value)?;
        }
        "output" => options.output.push(value.to_owned()),
        "write-out" => options.write_out = Some(file_or_text(value)?),
        "resolve" => options.resolve.push(resolve(value)?),
        "connect-to" => options.connect_to.push(connect_to(value)?),
        "unix-socket" => options.unix_socket = owned(),
        _ => options.urls.push(value.to_owned()),
    }
    Ok(())
}

fn bad_number(name: &str) -> Failure {
    Failure::new(2, format!("option --{name}: expected a proper numerical parameter"))
}

fn seconds(name: &str, value: &str) -> Result<Duration, Failure> {
    value.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).ok_or_else(|| bad_number(name))
}

fn read(path: &str) -> Result<Vec<u8>, Failure> {
    if path == "-" {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin(), &mut bytes).map_err(|error| Failure::new(26, error.to_string()))?;
        return Ok(bytes);
    }
    std::fs::read(path).map_err(|error| Failure::new(26, format!("Failed to open {path}: {error}")))
}

fn file_or_text(value: &str) -> Result<String, Failure> {
    match value.strip_prefix('@') {
        Some(path) => Ok(String::from_utf8_lossy(&read(path)?).into_owned()),
        None => Ok(value.to_owned()),
    }
}

fn header_lines(value: &str) -> Result<Vec<String>, Failure> {
    Ok(match value.strip_prefix('@') {
        Some(path) => String::from_utf8_lossy(&read(path)?).lines().map(str::to_owned).collect(),
        None => vec![value.to_owned()],
    })
}

fn add_data(options: &mut Options, name: &str, value: &str) -> Result<(), Failure> {
    let bytes = match (name, value.strip_prefix('@')) {
        ("data-raw", _) | (_, None) if name != "data-urlencode" => value.as_bytes().to_vec(),
        ("data-urlencode", _) => urlencode(value).into_bytes(),
        ("data" | "data-ascii", Some(path)) => read(path)?.into_iter().filter(|byte| !matches!(byte, b'\r' | b'\n' | 0)).collect(),
        (_, Some(path)) => read(path)?,
        (_, None) => value.as_bytes().to_vec(),
    };
    if name == "json" {
        options.json = true;
    }
    match &mut options.data {
        Some(data) => {
            if name != "json" {
                data.push(b'&');
            }
            data.extend(bytes);
        }
        None => options.data = Some(bytes),
    }
    Ok(())
}

/// `content`, `=content` or `name=content`: the content is encoded.
fn urlencode(value: &str) -> String {
    let (name, content) = value.split_once('=').map_or(("", value), |(name, content)| (name, content));
    let mut text = if name.is_empty() { String::new() } else { format!("{name}=") };
    for byte in content.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

fn resolve(value: &str) -> Result<(String, u16, IpAddr), Failure> {
    let wrong = || Failure::new(49, format!("Could not parse CURLOPT_RESOLVE entry '{value}'"));
    let mut parts = value.trim_start_matches('+').splitn(3, ':');
    let (Some(host), Some(port), Some(address)) = (parts.next(), parts.next(), parts.next()) else { return Err(wrong()) };
    let address = address.split(',').next().unwrap_or(address).trim_start_matches('[').trim_end_matches(']');
    Ok((host.to_ascii_lowercase(), port.parse().map_err(|_| wrong())?, address.parse().map_err(|_| wrong())?))
}

fn connect_to(value: &str) -> Result<[String; 4], Failure> {
    let parts: Vec<String> = value.split(':').map(str::to_owned).collect();
    parts.try_into().map_err(|_| Failure::new(49, format!("cannot parse --connect-to '{value}': expected HOST1:PORT1:HOST2:PORT2")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Options {
        parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).expect("valid")
    }

    #[test]
    fn joined_short_options_split() {
        let options = parsed("-sSo/dev/null -w %{http_code} -m2.5 http://a/");
        assert!(options.silent && options.show_error);
        assert_eq!(options.output, ["/dev/null"]);
        assert_eq!(options.max_time, Some(Duration::from_millis(2500)));
        assert_eq!(options.urls, ["http://a/"]);
    }

    #[test]
    fn unknown_option_is_exit_code_2() {
        let failure = parse(&["--frobnicate".to_owned(), "http://a".to_owned()]).err().expect("refused");
        assert_eq!((failure.code, failure.message.as_str()), (2, "option --frobnicate: is unknown"));
    }

    #[test]
    fn data_is_joined_with_ampersands() {
        let options = parsed("-d a=1 -d b=2 --data-urlencode c=ü http://a");
        assert_eq!(options.data.as_deref(), Some("a=1&b=2&c=%C3%BC".as_bytes()));
    }

    #[test]
    fn resolve_needs_three_parts() {
        assert_eq!(parsed("--resolve a.b:80:127.0.0.1 http://a.b").resolve, [("a.b".to_owned(), 80, IpAddr::from([127, 0, 0, 1]))]);
        assert!(resolve("a.b:80").is_err());
    }
}
