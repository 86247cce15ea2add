//! One attempt: one request to the destination, at most, and what became of it.
//!
//! It reports facts. Whether and when there is another attempt is the gateway's decision; nothing here sends twice. An
//! outcome without an answer is `unknown` if the connection had taken the request, and only then.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use jobs_core::outcome::Class;
use jobs_core::process::clock::{self, Clock};
use jobs_core::process::duration;
use jobs_core::protocol::{WireClass, WireLease, WireOutcome};
use reqwest::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use reqwest::{Body, Method, Request};
use tokio::time::Instant;

use crate::Worker;
use crate::answer::{self, Answer, Unread};
use crate::cause::{self, Fault};
use crate::held::Lease;
#[cfg(feature = "otlp")]
use crate::otlp::Span;
use crate::report::Report;
use crate::young::Place;

/// Headers that frame the request on the wire: the client's own business, since a wrong one would split the request.
const FRAMING: [HeaderName; 3] = [CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION];

/// Makes the attempt of one lease, and hands its outcome on to be reported.
pub(crate) async fn run(worker: Arc<Worker>, lease: Arc<Lease>, granted: WireLease) {
    #[cfg_attr(not(feature = "otlp"), expect(unused_mut, reason = "only the span is set later"))]
    let mut slot = Slot {
        worker: &worker,
        lease: &lease,
        over: false,
        #[cfg(feature = "otlp")]
        span: None,
    };
    let place = worker.young.begin().await;
    let begun = worker.clock.now();
    #[cfg(feature = "otlp")]
    if worker.spans.is_some() {
        slot.span = Span::begin(&granted, begun);
    }
    let end = call(&worker, &lease, granted, place).await;
    let latency = worker.clock.now().mono.since(lease.sent_at().unwrap_or(begun.mono));
    let outcome = WireOutcome {
        job_id: lease.key.job_id,
        epoch: lease.key.epoch,
        class: WireClass::Release,
        status: None,
        latency_ms: latency.as_micros() as f64 / 1_000.0,
        retry_after_ms: None,
        error: None,
        unknown: false,
        response: None,
    };
    match end {
        // Nothing was sent. Where it is another's by now, there is nothing to tell.
        End::Withdrawn if lease.is_lost() => slot.forget(),
        End::Withdrawn => slot.report(WireOutcome { latency_ms: 0.0, ..outcome }),
        End::NoAnswer(class, error) => {
            let (class, unknown) = (WireClass::Attempted(class), lease.sent_at().is_some());
            slot.report(WireOutcome { class, error: Some(error), unknown, ..outcome });
        }
        End::Answered(answer, unread) => {
            slot.report(answer.into_outcome(outcome));
            // After the report and with the slot free, so that a giant answer delays nobody.
            if let Some(unread) = unread {
                unread.drain().await;
            }
        }
    }
}

/// The place of a call among those in flight; given back however the call ends.
struct Slot<'a> {
    worker: &'a Worker,
    lease: &'a Arc<Lease>,
    over: bool,
    /// What a collector is told of the call, if it is told anything.
    #[cfg(feature = "otlp")]
    span: Option<Span>,
}

impl Slot<'_> {
    fn report(mut self, outcome: WireOutcome) {
        self.over = true;
        self.worker.metrics.ended(outcome.class);
        #[cfg(feature = "otlp")]
        if let (Some(spans), Some(span)) = (&self.worker.spans, self.span.take()) {
            spans.ended(span, &outcome, self.worker.clock.now().mono);
        }
        // No reporter any more means that the grace period is over: the lease will lapse.
        self.worker.reports.send(Report::Ended { lease: self.lease.clone(), outcome }).ok();
    }

    fn forget(mut self) {
        self.over = true;
        self.worker.held.settled([&self.lease.key]);
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        if !self.over {
            log::error!(job:% = self.lease.key.job_id; "an attempt ended without an outcome: its lease is left to lapse");
            self.worker.held.settled([&self.lease.key]);
        }
        self.worker.held.ended();
    }
}

/// How a call ended.
#[expect(clippy::large_enum_variant, reason = "made once a call and taken apart at once; a box would cost more")]
enum End {
    /// Not sent: the lease was taken back, or was about to end.
    Withdrawn,
    NoAnswer(Class, String),
    Answered(Answer, Option<Unread>),
}

async fn call(worker: &Worker, lease: &Arc<Lease>, mut granted: WireLease, place: Place<'_>) -> End {
    if lease.is_withdrawn() {
        return End::Withdrawn;
    }
    let limit = Duration::from_millis(granted.request.timeout_ms);
    let rules = std::mem::take(&mut granted.request.rules);
    let request = match build(granted, lease, worker) {
        Ok(request) => request,
        // Either this job or its destination's settings are wrong: which, the gateway finds by comparing it with others.
        Err(error) => return End::NoAnswer(Class::Suspect, error.to_string()),
    };
    let deadline = Instant::from_std(clock::instant()) + limit;
    let head = place.until(tokio::time::timeout_at(deadline, worker.client.execute(request))).await;
    if lease.is_withdrawn() {
        return End::Withdrawn;
    }
    match head {
        Ok(Ok(response)) => {
            let (answer, unread) = answer::read(response, &rules, deadline).await;
            End::Answered(answer, unread)
        }
        Ok(Err(error)) => {
            lease.give_up();
            let class = if cause::fault(&error) == Fault::Tls { Class::Suspect } else { Class::Down };
            End::NoAnswer(class, cause::describe(&error))
        }
        Err(_late) => {
            // Decided, not only looked at: the connection may be about to take the request.
            let what = if lease.give_up() { "no answer" } else { "cannot connect" };
            End::NoAnswer(Class::Down, format!("{what} within {}", duration::show(limit)))
        }
    }
}

/// Why a lease's request cannot be sent at all.
#[derive(Debug, thiserror::Error)]
enum Unsendable {
    #[error("{0:?} is not an HTTP method")]
    Method(String),
    #[error("the destination's URL is not one: {0}")]
    Url(String),
    #[error("the header {0:?} cannot be sent")]
    Header(String),
    #[error("the payload is not base64")]
    Payload,
}

/// The request, as the lease says; the worker adds which attempt it is and under which epoch.
fn build(granted: WireLease, lease: &Arc<Lease>, worker: &Worker) -> Result<Request, Unsendable> {
    let method = Method::from_bytes(granted.request.method.as_bytes());
    let method = method.map_err(|_| Unsendable::Method(granted.request.method))?;
    let url = worker.urls.parse(&granted.request.url).map_err(Unsendable::Url)?;
    let payload = match (granted.payload, granted.payload_base64) {
        (Some(text), _) => Bytes::from(text),
        (None, Some(base64)) => Bytes::from(BASE64_STANDARD.decode(base64).map_err(|_| Unsendable::Payload)?),
        (None, None) => Bytes::new(),
    };
    let mut headers = HeaderMap::with_capacity(granted.request.headers.len() + 4);
    for (name, value) in granted.request.headers {
        let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value.as_bytes()))
        else {
            return Err(Unsendable::Header(name));
        };
        if !FRAMING.contains(&name) {
            headers.append(name, value);
        }
    }
    headers.insert(HeaderName::from_static("job-epoch"), HeaderValue::from(lease.key.epoch.as_u64()));
    headers.insert(HeaderName::from_static("job-attempt"), HeaderValue::from(granted.attempt));
    if let Some(traceparent) = granted.traceparent {
        let value = HeaderValue::from_str(&traceparent).map_err(|_| Unsendable::Header("traceparent".to_owned()))?;
        headers.insert(HeaderName::from_static("traceparent"), value);
    }
    let shows_zero = [Method::POST, Method::PUT, Method::PATCH].contains(&method);
    let mut request = Request::new(method, url);
    *request.headers_mut() = headers;
    let (bytes, lease, clock) = (Some(payload), lease.clone(), worker.clock);
    *request.body_mut() = Some(Body::wrap(Payload { bytes, shows_zero, lease, clock }));
    Ok(request)
}

/// The payload as the connection takes it: it asks the lease at that moment whether it may still be sent.
///
/// The HTTP client asks a body for its data, or whether it is empty, when it has a connection and writes the request's head
/// into that connection's buffer, and never before. If the body then fails, the buffer is thrown away unwritten.
struct Payload {
    /// `None` once taken.
    bytes: Option<Bytes>,
    /// An empty one has `Content-Length: 0`, without which some servers answer 411 to a method that usually has a body.
    shows_zero: bool,
    lease: Arc<Lease>,
    clock: Clock,
}

/// The lease was withdrawn before its request was written.
#[derive(Debug, thiserror::Error)]
#[error("withdrawn before it was sent")]
struct Withdrawn;

impl Payload {
    fn may_be_sent(&self) -> bool {
        self.lease.begin_send(self.clock.now().mono)
    }
}

impl HttpBody for Payload {
    type Data = Bytes;
    type Error = Withdrawn;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Withdrawn>>> {
        if !self.may_be_sent() {
            return Poll::Ready(Some(Err(Withdrawn)));
        }
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    /// For an empty payload this is the last question before the request is written, so it is here that the lease is asked.
    fn is_end_stream(&self) -> bool {
        match &self.bytes {
            None => true,
            Some(bytes) => bytes.is_empty() && self.may_be_sent() && !self.shows_zero,
        }
    }

    /// An empty payload that may not be sent pretends to have data, so that the client comes for it and gets the error.
    fn size_hint(&self) -> SizeHint {
        let length = self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
        SizeHint::with_exact(if self.lease.is_withdrawn() { length.max(1) } else { length })
    }
}
