//! Mirrors: copies of requests sent elsewhere, whose answers nobody waits for.
//!
//! - Reads: `plan::route::Mirror`.
//! - Twin: `kinds/src/virtual_service/mirror.rs`.
//! - Rule: a copy is sent when its original has been answered and never delays or fails it.
//! - Limits: [`COPIES_MAX`] at once per worker, [`TIME_MAX`] each; bodies larger than the replay limit are not copied.
//! - Not here: retries, metrics and logs of copies (Envoy has none either).

use super::body::{BodyTx, Chunk, Data, H2Tx};
use super::codec::h1::{H1Tx, ReadBuffer, TxFraming};
use super::h2_client;
use super::io::Io;
use super::replay::{Replay, discard};
use super::router::Target;
use super::stream::Stream;
use super::upstream::{Extra, UpstreamRx, h2_request, write_h1_request};
use crate::cluster::{Cluster, Host, Pick, PoolKey, checkout};
use crate::worker::Worker;
use bytes::Bytes;
use lateen_http1::{Framing, Limits, RequestHead, ResponseHead};
use lateen_plan::cluster::UpstreamProtocol;
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Copies on their way at once, per worker; further ones are dropped.
const COPIES_MAX: u32 = 256;
/// Longest life of a copy.
const TIME_MAX: Duration = Duration::from_secs(15);
/// An answer longer than this is not read to its end.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

thread_local! {
    static COPIES: Cell<u32> = const { Cell::new(0) };
}

/// Sends the copies that the route asks for.
pub(crate) fn send(stream: &Stream<'_>, target: &Target<'_>, replay: &Replay) {
    for mirror in &target.forward.mirrors {
        if !mirror.fraction.hit(stream.worker().draw()) || COPIES.get() >= COPIES_MAX || target.upgrade {
            continue;
        }
        let (Some(cluster), Some(body)) = (stream.worker().cluster(&mirror.cluster), replay.whole()) else { continue };
        let mut head = stream.request.head.clone();
        if !mirror.host_rewrite.is_empty() {
            head.set_authority(mirror.host_rewrite.as_bytes());
        } else if !mirror.keep_host {
            let shadow = shadow_host(head.authority());
            head.set_authority(&shadow);
        }
        let key = PoolKey { alpn: stream.pool_key(target).alpn, sni: None };
        let original_dst = stream.original_dst(target);
        let worker = Rc::clone(stream.worker());
        COPIES.set(COPIES.get() + 1);
        tokio::task::spawn_local(async move {
            let pick = Pick { original_dst: Some(original_dst), attempts_max: 1, ..Pick::default() };
            // Nobody waits: a failed copy is only a copy that failed.
            let _ = tokio::time::timeout(TIME_MAX, copy(&worker, &cluster, &pick, &key, (head, body))).await;
            COPIES.set(COPIES.get().saturating_sub(1));
        });
    }
}

/// `host-shadow`, the port kept.
fn shadow_host(authority: &[u8]) -> Vec<u8> {
    let (host, port) = lateen_plan::route::rewrite::split_port(authority);
    let mut shadow = [host, b"-shadow"].concat();
    if let Some(port) = port {
        shadow.push(b':');
        shadow.extend_from_slice(port);
    }
    shadow
}

async fn copy(worker: &Rc<Worker>, cluster: &Rc<Cluster>, pick: &Pick<'_>, key: &PoolKey, (mut head, body): (RequestHead, Bytes)) -> Option<()> {
    let host = cluster.pick(worker, pick)?;
    head.framing = if body.is_empty() { Framing::None } else { Framing::Length(body.len() as u64) };
    head.headers.remove(b"expect");
    match cluster.plan.http.protocol {
        UpstreamProtocol::Http2 => over_h2(worker, cluster, &host, key, (head, body)).await,
        UpstreamProtocol::Http1 | UpstreamProtocol::UseDownstream | UpstreamProtocol::Auto => over_h1(worker, cluster, &host, key, (head, body)).await,
    }
}

const NOTHING_MORE: Extra<'_> = Extra { attempt_count: None, expected_timeout_ms: None, upgrade: None };

async fn over_h1(worker: &Rc<Worker>, cluster: &Rc<Cluster>, host: &Rc<Host>, key: &PoolKey, (head, body): (RequestHead, Bytes)) -> Option<()> {
    let mut lease = checkout(worker, cluster, host, key, 0).await.ok()?;
    let (mut buffer, mut out) = (ReadBuffer::new(worker.buffers.take()), worker.buffers.take());
    write_h1_request(&mut out, &head, &NOTHING_MORE);
    let reusable = {
        let io = Io::new(&mut lease.connection().stream);
        let mut tx = H1Tx { io: &io, out: &mut out, framing: TxFraming::Plain };
        tx.data(&body, false).await.ok()?;
        BodyTx::H1(tx).finish(None).await.ok()?;
        let mut rx = UpstreamRx::H1 { io: &io, buffer: &mut buffer, limits: Limits::default() };
        let mut response = ResponseHead::default();
        loop {
            rx.head(head.method(), &mut response).await.ok()?;
            if !response.is_informational() {
                break;
            }
        }
        let mut answer = rx.into_answer(&response, false);
        discard(&mut answer.body, ANSWER_BYTES_MAX).await.ok()? && answer.reusable
    };
    if reusable && buffer.is_empty() {
        lease.give_back(cluster.plan.http.max_requests_per_connection, Instant::now());
    }
    worker.buffers.give(buffer.take_memory());
    worker.buffers.give(out);
    Some(())
}

async fn over_h2(worker: &Rc<Worker>, cluster: &Rc<Cluster>, host: &Rc<Host>, key: &PoolKey, (head, body): (RequestHead, Bytes)) -> Option<()> {
    let mut slot = h2_client::checkout(worker, cluster, host, key, 0).await.ok()?;
    let request = h2_request(&head, &NOTHING_MORE, slot.connection.tls.is_some())?;
    let (answer, stream) = slot.sender.send_request(request, body.is_empty()).ok()?;
    let mut tx = BodyTx::H2(H2Tx { stream: (!body.is_empty()).then_some(stream) });
    tx.data(Chunk { data: Data::Shared(body), end: true, more: false }).await.ok()?;
    tx.finish(None).await.ok()?;
    let mut rx = UpstreamRx::H2(answer);
    let mut response = ResponseHead::default();
    rx.head(head.method(), &mut response).await.ok()?;
    discard(&mut rx.into_answer(&response, false).body, ANSWER_BYTES_MAX).await.ok()?;
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shadow_host_keeps_its_port() {
        assert_eq!(shadow_host(b"a:80"), b"a-shadow:80");
        assert_eq!(shadow_host(b"a"), b"a-shadow");
    }
}
