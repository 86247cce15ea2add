//! The answer to a claim, written lease by lease, each on a line of its own: see [`jobs_core::protocol::ClaimResponse`].
//!
//! A claim of large payloads is 8 MiB and more. As one text it would be copied three times before the first byte is sent; written in
//! pieces each fits the processor's caches, the worker begins the first leases while the last are made, and what a worker that hangs
//! up meanwhile never got is released.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;
use jobs_core::job::DestinationName;
use jobs_core::protocol::{LEASES, WireLease, WireProbe};
use serde::Serialize;

use super::{Granted, lease, text};
use crate::app::Catalog;

/// A piece ends with the lease that makes it as long as this: what the server sends at a time.
const PIECE: usize = 64 * 1024;

/// What a lease takes beside its payload, rather more than less.
const FRAME: usize = 1024;

/// What of a [`jobs_core::protocol::ClaimResponse`] is not its leases.
#[derive(Serialize)]
pub(super) struct Rest {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) probes: Vec<WireProbe>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) release: Vec<DestinationName>,
}

/// An answer that is being written.
pub(super) struct Answer {
    granted: Granted,
    catalog: Arc<Catalog>,
    /// Of the leases' term, when the answer began.
    left: Duration,
    written: usize,
    is_over: bool,
}

impl Answer {
    pub(super) fn new(granted: Granted, catalog: Arc<Catalog>, left: Duration) -> Self {
        Answer { granted, catalog, left, written: 0, is_over: false }
    }

    /// A short one is one piece, of known length.
    pub(super) fn into_response(mut self, rest: &Rest) -> HttpResponse {
        let mut first = Vec::with_capacity(self.length_of_next());
        open(&mut first, rest);
        self.fill(&mut first);
        let mut response = HttpResponse::Ok();
        response.content_type("application/json");
        if self.is_over {
            response.body(first)
        } else {
            response.body(Pieces { first: Some(first.into()), answer: self })
        }
    }

    fn next_piece(&mut self) -> Bytes {
        let mut piece = Vec::with_capacity(self.length_of_next());
        self.fill(&mut piece);
        piece.into()
    }

    fn fill(&mut self, piece: &mut Vec<u8>) {
        while !self.is_over && (piece.len() < PIECE || self.granted.is_empty()) {
            // Where there is none its destination was removed in this very moment.
            let listed =
                self.granted.left().first().and_then(|lease| self.catalog.find(lease.job.destination.as_str()).ok());
            let Some((listed, lease)) = listed.zip(self.granted.next()) else {
                piece.extend_from_slice(b"]}");
                self.is_over = true;
                return;
            };
            if self.written > 0 {
                piece.push(b',');
            }
            self.written += 1;
            write_lease(piece, lease::wire(lease, &listed.settings, self.left));
            piece.push(b'\n');
        }
    }

    /// About how long the next piece is, so that it is seldom moved while it grows.
    fn length_of_next(&self) -> usize {
        let mut length = FRAME;
        for lease in self.granted.left() {
            if length >= PIECE {
                break;
            }
            let payload = lease.request.body.len();
            // Some of it will be escaped.
            length += FRAME + payload + payload / 8;
        }
        length
    }
}

/// The pieces as the server takes them, after the first.
struct Pieces {
    first: Option<Bytes>,
    answer: Answer,
}

impl MessageBody for Pieces {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        let piece = self.first.take().or_else(|| (!self.answer.is_over).then(|| self.answer.next_piece()));
        Poll::Ready(piece.map(Ok))
    }
}

/// Everything before the first lease: a line that ends with [`LEASES`].
fn open(piece: &mut Vec<u8>, rest: &Rest) {
    write(piece, rest);
    piece.pop(); // its closing brace
    if piece.len() > 1 {
        piece.push(b',');
    }
    piece.extend_from_slice(LEASES);
    piece.push(b'\n');
}

/// The payload apart from the rest, and last: it may be megabytes, to be searched for what JSON escapes.
fn write_lease(piece: &mut Vec<u8>, mut lease: WireLease) {
    let payload = lease.payload.take();
    write(piece, &lease);
    if let Some(payload) = payload {
        piece.pop(); // its closing brace
        piece.extend_from_slice(br#","payload":"#);
        text::write(piece, &payload);
        piece.push(b'}');
    }
}

fn write(piece: &mut Vec<u8>, part: &impl Serialize) {
    serde_json::to_writer(piece, part).expect("the protocol's types are always JSON");
}

#[cfg(test)]
mod tests {
    use jobs_core::protocol::ClaimResponse;

    use super::*;

    #[test]
    fn what_is_not_a_lease_is_in_the_first_line() {
        let probe = WireProbe {
            destination: "api2".parse().unwrap(),
            method: "GET".to_owned(),
            url: "http://127.0.0.1:1/".to_owned(),
            expect: 200,
            timeout_ms: 2_000,
        };
        for (probes, release) in [(vec![], vec![]), (vec![probe], vec!["a".parse().unwrap(), "b".parse().unwrap()])] {
            let mut line = Vec::new();
            open(&mut line, &Rest { probes: probes.clone(), release: release.clone() });
            let line = String::from_utf8(line).unwrap();
            assert_eq!(line.find('\n'), Some(line.len() - 1));
            let whole: ClaimResponse = serde_json::from_str(&(line + "]}")).unwrap();
            assert_eq!(whole, ClaimResponse { leases: vec![], probes, release });
        }
    }
}
