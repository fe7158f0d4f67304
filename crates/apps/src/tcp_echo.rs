//! `tcp-echo`: sends each line back with a prefix, as Istio's sample does.
//!
//! - Reads: `PORT[,PORT…] PREFIX`.
//! - Limits: [`LINE_BYTES_MAX`] per line; a longer line ends the connection.

use std::process::ExitCode;

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::{
    Environment,
    server::{bind, block_on},
};

const LINE_BYTES_MAX: u64 = 64 * 1024;

/// Entry point of `lateen app tcp-echo`.
pub(crate) fn run(args: &[String], _env: &Environment) -> ExitCode {
    let args: Vec<&str> = args.iter().map(String::as_str).filter(|arg| !arg.ends_with("tcp-echo")).collect();
    let (Some(ports), prefix) = (args.first(), args.get(1).copied().unwrap_or("hello")) else {
        eprintln!("usage: tcp-echo PORT[,PORT...] PREFIX");
        return ExitCode::from(2);
    };
    block_on(async {
        let mut servers = JoinSet::new();
        for port in ports.split(',') {
            match bind(&format!(":{port}")).await {
                Ok(listener) => {
                    println!("listening on :{port}, prefix: {prefix}");
                    servers.spawn(accept(listener, prefix.to_owned()));
                }
                Err(error) => {
                    eprintln!("tcp-echo: {error}");
                    return ExitCode::FAILURE;
                }
            }
        }
        // A server ends only when its listener fails.
        servers.join_next().await;
        ExitCode::FAILURE
    })
}

async fn accept(listener: TcpListener, prefix: String) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(echo(stream, prefix.clone()));
    }
}

async fn echo(stream: TcpStream, prefix: String) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let mut line = Vec::new();
    loop {
        line.clear();
        (&mut read).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await?;
        if line.last() != Some(&b'\n') {
            return Ok(());
        }
        write.write_all(format!("{prefix} ").as_bytes()).await?;
        write.write_all(&line).await?;
    }
}
