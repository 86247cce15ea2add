//! Tells a collector of each attempt, as a span of its caller's trace: OTLP over HTTP, as JSON. Only with the feature `otlp`.
//!
//! The span is the one that the destination was sent in `traceparent`, and its parent is the caller's. As is usual, the caller
//! decides what is recorded: a trace without the flag `sampled`, such as that of a job that came without one, is not exported.
//!
//! An attempt only ever puts its span into a bounded queue. A thread of the library's takes them from there and sends them in
//! batches, so that a collector that is slow or away costs spans, and a few seconds of the grace period when the worker ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use jobs_core::job::WorkerId;
use jobs_core::outcome::Class;
use jobs_core::protocol::{WireClass, WireLease, WireOutcome};
use jobs_core::time::{Mono, Now};
use jobs_core::trace;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor,
};
use reqwest::{Client, Url};
use tokio::runtime::Handle;

use crate::cause;
use crate::config::CollectorUrl;
use crate::report;

/// Spans that wait to be sent: some tenths of a second of a worker at full speed, a few megabytes. More are dropped.
const MAX_WAITING: usize = 4_096;
const MAX_BATCH: usize = 512;

/// How long a span waits for others to be sent with.
const GATHER: Duration = Duration::from_secs(1);

/// How long a collector may take to answer.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Most of the grace period that a drain spends on spans: a collector that is away must not keep a worker from ending.
const FLUSH_TIME: Duration = Duration::from_secs(5);

/// Read of a collector's answer: it says little.
const MAX_ANSWER: usize = 64 * 1024;

/// The methods that OpenTelemetry has as values of its own.
const METHODS: [&str; 9] = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];

/// The way to the collector.
pub(crate) struct Spans {
    processor: Arc<BatchSpanProcessor>,
    scope: InstrumentationScope,
    /// The last batch was not taken.
    failing: Arc<AtomicBool>,
}

impl Spans {
    /// Call it inside a tokio runtime, which `client` needs.
    pub(crate) fn to(collector: &CollectorUrl, worker: WorkerId, client: Client) -> Result<Self, ExporterBuildError> {
        let failing = Arc::<AtomicBool>::default();
        let client = Collector { client, runtime: Handle::current(), failing: failing.clone() };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpJson)
            .with_endpoint(collector.traces())
            .with_timeout(EXPORT_TIMEOUT)
            .with_http_client(client)
            .build()?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(MAX_WAITING)
            .with_max_export_batch_size(MAX_BATCH)
            .with_scheduled_delay(GATHER)
            .build();
        let mut processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
        let resource = Resource::builder_empty()
            .with_service_name(env!("CARGO_PKG_NAME"))
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new("service.instance.id", worker.0.to_string()))
            .build();
        processor.set_resource(&resource);
        let scope = InstrumentationScope::builder(env!("CARGO_PKG_NAME")).build();
        Ok(Spans { processor: Arc::new(processor), scope, failing })
    }

    /// The attempt is over. A lease that was given back unsent has no span; a request that cannot be made has one, with its error.
    pub(crate) fn ended(&self, span: Span, outcome: &WireOutcome, now: Mono) {
        let WireClass::Attempted(class) = outcome.class else { return };
        let mut attributes = span.attributes;
        attributes.push(KeyValue::new("holdfast.outcome", report::name(outcome.class)));
        if let Some(status) = outcome.status {
            attributes.push(KeyValue::new("http.response.status_code", i64::from(status)));
        }
        let status = if class == Class::Ok {
            Status::Unset
        } else {
            let kind = outcome.status.filter(|status| *status >= 400).map(|status| status.to_string());
            attributes.push(KeyValue::new("error.type", kind.unwrap_or_else(|| class.as_str().to_owned())));
            Status::error(outcome.error.clone().unwrap_or_default())
        };
        self.processor.on_end(SpanData {
            span_context: span.context,
            parent_span_id: span.parent,
            parent_span_is_remote: true,
            span_kind: SpanKind::Client,
            name: span.name.into(),
            start_time: span.begun_wall,
            end_time: span.begun_wall + now.since(span.begun),
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status,
            instrumentation_scope: self.scope.clone(),
        });
    }

    /// Sends what is still waiting, at most for `grace`; nothing is exported afterwards.
    pub(crate) async fn flush(&self, grace: Duration) {
        let processor = self.processor.clone();
        let limit = grace.min(FLUSH_TIME);
        let flushed = tokio::task::spawn_blocking(move || processor.shutdown_with_timeout(limit)).await;
        match flushed {
            Ok(Ok(())) if self.failing.load(Ordering::Relaxed) => log::warn!("the last spans were not exported"),
            Ok(Ok(())) => {}
            Ok(Err(error)) => log::warn!("the last spans may not have been exported: {error}"),
            Err(error) => log::error!("the export of spans has failed: {error}"),
        }
    }
}

/// What is known of an attempt when it begins.
pub(crate) struct Span {
    context: SpanContext,
    parent: SpanId,
    name: &'static str,
    attributes: Vec<KeyValue>,
    begun: Mono,
    begun_wall: SystemTime,
}

impl Span {
    /// `None` if the trace is not recorded.
    pub(crate) fn begin(granted: &WireLease, now: Now) -> Option<Span> {
        let traceparent = granted.traceparent.as_deref().filter(|text| trace::is_traceparent(text))?;
        let flags = TraceFlags::new(u8::from_str_radix(&traceparent[53..], 16).ok()?);
        if !flags.is_sampled() {
            return None;
        }
        let trace_id = TraceId::from_hex(&traceparent[3..35]).ok()?;
        let span_id = SpanId::from_hex(&traceparent[36..52]).ok()?;
        // A gateway that is older than this worker does not tell it.
        let parent = granted.parent_span.as_deref().and_then(|text| SpanId::from_hex(text).ok());
        let (name, mut attributes) = method(&granted.request.method);
        attributes.extend(target(&granted.request.url));
        attributes.extend([
            KeyValue::new("holdfast.job.id", granted.job_id.to_string()),
            KeyValue::new("holdfast.destination", granted.destination.to_string()),
            KeyValue::new("holdfast.attempt", i64::from(granted.attempt)),
        ]);
        let since_epoch = u64::try_from(now.wall.as_millis()).unwrap_or_default();
        Some(Span {
            context: SpanContext::new(trace_id, span_id, flags, false, TraceState::default()),
            parent: parent.unwrap_or(SpanId::INVALID),
            name,
            attributes,
            begun: now.mono,
            begun_wall: UNIX_EPOCH + Duration::from_millis(since_epoch),
        })
    }
}

/// The span's name and how it was called, by OpenTelemetry's rule: callers choose methods, and names are to be few.
fn method(method: &str) -> (&'static str, Vec<KeyValue>) {
    match METHODS.into_iter().find(|known| *known == method) {
        Some(known) => (known, vec![KeyValue::new("http.request.method", known)]),
        None => ("HTTP", vec![KeyValue::new("http.request.method", "_OTHER")]),
    }
}

/// Where the attempt went: the server. No more of the URL, since secrets are in user info, in queries, and in paths of webhooks.
fn target(url: &str) -> Vec<KeyValue> {
    let Ok(url) = Url::parse(url) else { return Vec::new() };
    let Some(host) = url.host_str() else { return Vec::new() };
    let mut target = vec![KeyValue::new("server.address", host.trim_matches(['[', ']']).to_owned())];
    target.extend(url.port_or_known_default().map(|port| KeyValue::new("server.port", i64::from(port))));
    target
}

/// The worker's own HTTP client, as the exporter wants to call it.
#[derive(Debug)]
struct Collector {
    client: Client,
    /// The exporter's thread is none of the runtime's, and the client works nowhere else.
    runtime: Handle,
    /// See [`Spans`].
    failing: Arc<AtomicBool>,
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let mut request = reqwest::Request::try_from(request)?;
        *request.timeout_mut() = Some(EXPORT_TIMEOUT);
        let client = self.client.clone();
        let call = self.runtime.spawn(async move { call(&client, request).await });
        let result = call.await?;
        self.note(match &result {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("answered {}", answer.status().as_u16())),
            Err(error) => Some(cause::describe(error)),
        });
        Ok(result?)
    }
}

impl Collector {
    /// One line when the collector stops taking spans, and one when it takes them again.
    fn note(&self, failure: Option<String>) {
        let before = self.failing.swap(failure.is_some(), Ordering::Relaxed);
        match failure {
            Some(failure) if !before => log::warn!("spans are not exported: {failure}"),
            None if before => log::info!("spans are exported again"),
            Some(_) | None => {}
        }
    }
}

async fn call(client: &Client, request: reqwest::Request) -> Result<Response<Bytes>, reqwest::Error> {
    let mut answer = client.execute(request).await?;
    let mut body = Vec::new();
    while body.len() < MAX_ANSWER
        && let Some(chunk) = answer.chunk().await?
    {
        body.extend_from_slice(&chunk);
    }
    let mut response = Response::new(body.into());
    *response.status_mut() = answer.status();
    *response.headers_mut() = std::mem::take(answer.headers_mut());
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(attributes: &[KeyValue]) -> Vec<String> {
        attributes.iter().map(|attribute| format!("{}={}", attribute.key, attribute.value)).collect()
    }

    #[test]
    fn of_a_url_only_the_server_is_told() {
        assert_eq!(texts(&target("https://user:secret@h/a/b?key=hush#part")), ["server.address=h", "server.port=443"]);
        assert_eq!(texts(&target("http://[::1]:81")), ["server.address=::1", "server.port=81"]);
        assert!(target("nowhere").is_empty() && target("mailto:user@h").is_empty());
    }

    #[test]
    fn a_method_that_a_caller_has_made_up_names_no_span() {
        assert_eq!(method("GET").0, "GET");
        let (name, attributes) = method("PURGE");
        assert_eq!((name, texts(&attributes)), ("HTTP", vec!["http.request.method=_OTHER".to_owned()]));
    }
}
