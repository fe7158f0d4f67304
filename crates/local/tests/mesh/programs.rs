//! What runs in the pods of these tests.
//!
//! - `discovery`: is ready, and nothing else. `sidecar`: is ready, and tells each redirected connection where it was going.
//! - `app serve PORT TEXT`, `app exit CODE`, `app call ADDRESS…` (first answer is printed), `app resolve NAME`, `app sleep`.

use lateen_sys::socket::original_destination;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::process::ExitCode;

pub(crate) fn run(args: &[String]) -> ExitCode {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["discovery", ..] => serve(8080, |_| "ready".into()),
        ["sidecar", ..] => {
            std::thread::spawn(|| serve(15021, |_| "ready".into()));
            std::thread::spawn(|| serve(15006, |stream| format!("inbound {}", went_to(stream))));
            serve(15001, |stream| format!("outbound {}", went_to(stream)))
        }
        ["app", "serve", port, text] => {
            let text = (*text).to_owned();
            serve(port.parse().expect("a port"), move |stream| format!("{text} from {}", stream.peer_addr().expect("a peer").ip()))
        }
        ["app", "exit", code] => ExitCode::from(code.parse::<u8>().expect("a code")),
        ["app", "call", address] => call(address),
        ["app", "resolve", name] => resolve(name),
        ["app", "sleep"] => loop {
            std::thread::park();
        },
        other => {
            eprintln!("no such program: {other:?}");
            ExitCode::FAILURE
        }
    }
}

fn went_to(stream: &TcpStream) -> String {
    original_destination(stream).map_or_else(|error| error.to_string(), |address| address.to_string())
}

/// Answers every connection with a small HTTP answer.
fn serve(port: u16, answer: impl Fn(&TcpStream) -> String) -> ExitCode {
    let listener = TcpListener::bind(("0.0.0.0", port)).expect("the port is free");
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { continue };
        let text = answer(&stream);
        let mut request = [0; 1024];
        // Whatever is asked gets the same answer; a peer that has gone needs none.
        let _ = stream.read(&mut request);
        let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}", text.len()).as_bytes());
    }
    ExitCode::SUCCESS
}

fn call(address: &str) -> ExitCode {
    let answer = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes())?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text.rsplit("\r\n").next().unwrap_or_default().to_owned())
    };
    match answer() {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            print!("{:?}", error.kind());
            ExitCode::FAILURE
        }
    }
}

fn resolve(name: &str) -> ExitCode {
    let found: Vec<String> = (name, 0).to_socket_addrs().map(|found| found.filter(SocketAddr::is_ipv4).map(|a| a.ip().to_string()).collect()).unwrap_or_default();
    let mut found = found;
    found.dedup();
    print!("{}", found.join(" "));
    ExitCode::SUCCESS
}
