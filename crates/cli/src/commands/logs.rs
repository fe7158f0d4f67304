//! `lateen logs`: a container's output.

use std::{io::Write as _, process::ExitCode};

use anyhow::{Result, bail};
use http::Method;
use http_body_util::BodyExt as _;

use super::{Context, namespace};
use crate::{
    args,
    client::{encode, text},
};

/// Entry point.
pub(crate) async fn run(context: &Context, flags: &args::Logs) -> Result<ExitCode> {
    let client = context.client();
    let pod = client.pod(&flags.pod, namespace(flags.namespace.as_ref())).await?;
    let mut path = format!("/logs?pod={}&namespace={}", encode(text(&pod, "/metadata/name")), encode(text(&pod, "/metadata/namespace")));
    if let Some(container) = &flags.container {
        path.push_str(&format!("&container={}", encode(container)));
    }
    if let Some(tail) = flags.tail {
        path.push_str(&format!("&tail={tail}"));
    }
    for (name, on) in [("follow", flags.follow), ("previous", flags.previous)] {
        if on {
            path.push_str(&format!("&{name}=true"));
        }
    }
    let response = client.send(Method::GET, &path, None).await?;
    let status = response.status();
    let mut body = response.into_body();
    let mut refusal = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame?.data_ref() {
            if status.is_success() {
                let mut stdout = std::io::stdout().lock();
                if stdout.write_all(data).and_then(|()| stdout.flush()).is_err() {
                    return Ok(ExitCode::SUCCESS);
                }
            } else {
                refusal.extend_from_slice(data);
            }
        }
    }
    if !status.is_success() {
        bail!("{}", String::from_utf8_lossy(&refusal));
    }
    Ok(ExitCode::SUCCESS)
}
