//! `/metrics`: OpenMetrics text. What happens is counted where it happens; what is, is read from kept counters when it is asked
//! for. Nothing here looks at jobs one by one, and no label takes its values from callers: destinations are configured, and a
//! route is its pattern.

mod standing;

use std::fmt;
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::CONTENT_TYPE;
use actix_web::middleware::Next;
use actix_web::{Error, HttpResponse, web};
use jobs_core::job::{Attempt, DestinationName, Job};
use jobs_core::process::clock;
use jobs_core::store::SettleAnswer;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::app::App;
use crate::problem::Problem;

/// Of every metric's name.
const PREFIX: &str = "holdfast";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Seconds: from a commit on a fast disk to the longest poll.
const SECONDS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5, 10.0, 30.0];

type Labels = Vec<(&'static str, String)>;
type Histograms = Family<Labels, Histogram, fn() -> Histogram>;

/// What has happened since the process began.
pub(crate) struct Metrics {
    registry: Registry,
    settled: Family<Labels, Counter>,
    retries: Family<Labels, Counter>,
    ended: Family<Labels, Counter>,
    leased: Family<Labels, Counter>,
    attempt_seconds: Histograms,
    request_seconds: Histograms,
}

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

fn of(destination: &DestinationName) -> Labels {
    vec![("destination", destination.to_string())]
}

fn of_both(destination: &DestinationName, name: &'static str, value: &str) -> Labels {
    vec![("destination", destination.to_string()), (name, value.to_owned())]
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let metrics = Metrics {
            settled: Family::default(),
            retries: Family::default(),
            ended: Family::default(),
            leased: Family::default(),
            attempt_seconds: Histograms::new_with_constructor(seconds),
            request_seconds: Histograms::new_with_constructor(seconds),
            registry: Registry::default(),
        };
        let Metrics { settled, retries, ended, leased, attempt_seconds, request_seconds, .. } = &metrics;
        registry.register("attempts_settled", "Attempts by what they found", settled.clone());
        registry.register("retries", "Attempts after which the job waits for another one", retries.clone());
        registry.register("jobs_ended", "Jobs by the state they ended in", ended.clone());
        registry.register("leases_granted", "Leases handed to workers", leased.clone());
        let help = "How long attempts took";
        registry.register_with_unit("attempt_duration", help, Unit::Seconds, attempt_seconds.clone());
        let help = "How long requests to the gateway took, by route; claims wait for work";
        registry.register_with_unit("http_request_duration", help, Unit::Seconds, request_seconds.clone());
        Metrics { registry, ..metrics }
    }

    pub(crate) fn settled(&self, answers: &[SettleAnswer]) {
        for answer in answers {
            if let SettleAnswer::Known { job, attempt: Some(attempt), .. } = answer {
                self.attempted(&job.destination, attempt);
            }
        }
    }

    fn attempted(&self, destination: &DestinationName, attempt: &Attempt) {
        self.settled.get_or_create(&of_both(destination, "class", attempt.outcome.as_str())).inc();
        self.attempt_seconds.get_or_create(&of(destination)).observe(attempt.duration.as_secs_f64());
        if attempt.next_run_at.is_some() {
            self.retries.get_or_create(&of(destination)).inc();
        }
    }

    pub(crate) fn ended(&self, job: &Job) {
        self.ended.get_or_create(&of_both(&job.destination, "state", job.state.name().as_str())).inc();
    }

    pub(crate) fn leased(&self, destination: &DestinationName, leases: u64) {
        self.leased.get_or_create(&of(destination)).inc_by(leases);
    }

    /// Leases granted so far.
    pub(crate) fn leases(&self, destination: &DestinationName) -> u64 {
        self.leased.get_or_create(&of(destination)).get()
    }

    fn requested(&self, method: &str, route: &str, status: u16, duration: Duration) {
        let status = format!("{}xx", status / 100);
        let labels = vec![("method", method.to_owned()), ("route", route.to_owned()), ("status", status)];
        self.request_seconds.get_or_create(&labels).observe(duration.as_secs_f64());
    }
}

/// Times each request, by the pattern of its route.
pub(crate) async fn time_requests(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let begun = clock::instant();
    let response = next.call(request).await?;
    let request = response.request();
    if let Some(app) = request.app_data::<web::Data<App>>() {
        let route = request.match_pattern();
        let method = if route.is_some() { request.method().as_str() } else { "" };
        let status = response.status().as_u16();
        app.metrics.requested(method, route.as_deref().unwrap_or("other"), status, begun.elapsed());
    }
    Ok(response)
}

/// Metrics as OpenMetrics text
#[utoipa::path(get, path = "/metrics", tag = "Operation",
    responses((status = 200, content_type = "application/openmetrics-text", body = String), (status = 503)))]
pub(crate) async fn metrics(app: web::Data<App>) -> Result<HttpResponse, Problem> {
    let standing = standing::registry(&app).await?;
    let mut text = String::new();
    write(&mut text, &[&app.metrics.registry, &standing]).expect("writing to a String cannot fail");
    Ok(HttpResponse::Ok().insert_header((CONTENT_TYPE, OPEN_METRICS)).body(text))
}

fn write(text: &mut String, registries: &[&Registry]) -> fmt::Result {
    registries.iter().try_for_each(|registry| encode_registry(text, registry))?;
    encode_eof(text)
}
