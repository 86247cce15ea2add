//! The answer to a claim, written lease by lease.
//!
//! A claim of large payloads is 8 MiB and more. As one text it would be copied three times before the first byte is sent; written in
//! pieces each fits the processor's caches, the worker reads the first ones while the last are made, and what a worker that hangs up
//! meanwhile never got is released.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;
use jobs_core::job::DestinationName;
use jobs_core::protocol::WireProbe;
use serde::Serialize;

use super::{Granted, lease};
use crate::app::Catalog;

/// A piece ends with the lease that makes it as long as this: what the server sends at a time.
const PIECE: usize = 64 * 1024;

/// What of a [`jobs_core::protocol::ClaimResponse`] follows its leases.
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
    /// `None` once written.
    rest: Option<Rest>,
}

impl Answer {
    pub(super) fn new(granted: Granted, catalog: Arc<Catalog>, left: Duration, rest: Rest) -> Self {
        Answer { granted, catalog, left, written: 0, rest: Some(rest) }
    }

    /// A short one is one piece, of known length.
    pub(super) fn into_response(mut self) -> HttpResponse {
        let first = self.piece();
        let mut response = HttpResponse::Ok();
        response.content_type("application/json");
        match self.rest {
            None => response.body(first),
            Some(_) => response.body(Pieces { first: Some(first), answer: self }),
        }
    }

    fn piece(&mut self) -> Bytes {
        let mut piece = Vec::with_capacity(2 * PIECE);
        if self.written == 0 {
            piece.extend_from_slice(br#"{"leases":["#);
        }
        while piece.len() < PIECE {
            // Where there is none its destination was removed in this very moment.
            let listed =
                self.granted.left().first().and_then(|lease| self.catalog.find(lease.job.destination.as_str()).ok());
            let Some((listed, lease)) = listed.zip(self.granted.next()) else {
                self.end(&mut piece);
                break;
            };
            if self.written > 0 {
                piece.push(b',');
            }
            self.written += 1;
            write(&mut piece, &lease::wire(lease, &listed.settings, self.left));
        }
        piece.into()
    }

    fn end(&mut self, piece: &mut Vec<u8>) {
        let Some(rest) = self.rest.take() else { return };
        let mut text = Vec::new();
        write(&mut text, &rest);
        piece.push(b']');
        if text.len() > 2 {
            piece.push(b',');
        }
        // Without its opening brace, which stands before the leases.
        piece.extend_from_slice(&text[1..]);
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
        let piece = self.first.take().or_else(|| self.answer.rest.is_some().then(|| self.answer.piece()));
        Poll::Ready(piece.map(Ok))
    }
}

fn write(text: &mut Vec<u8>, part: &impl Serialize) {
    serde_json::to_writer(text, part).expect("the protocol's types are always JSON");
}
