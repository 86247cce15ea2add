//! `POST /jobstore/v1/settle`: what became of leases, and what health checks found. Repeating it is harmless.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jobs_core::lease::LeaseKey;
use jobs_core::lifecycle::SettleResult;
use jobs_core::outcome::{Outcome, Response};
use jobs_core::protocol::{
    MAX_SETTLE, SettleRequest, SettleResponse, WireClass, WireOutcome, WireResponse, WireResult, WireSettled,
};
use jobs_core::store::{Report, SettleAnswer, Settlement};

use super::MESSAGE;
use crate::app::App;
use crate::auth::bearer;
use crate::body;
use crate::problem::{Code, Problem};

/// Kept of an error's text, in bytes: a sentence and its cause, not a page.
const MAX_ERROR: usize = 1_000;

pub(crate) async fn settle(
    app: web::Data<App>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    app.keys.worker(bearer(&request))?;
    let SettleRequest { worker, outcomes, probes } = body::message(&body::read(&request, payload, MESSAGE).await?)?;
    check_count(outcomes.len().max(probes.len()))?;
    let keys: Vec<LeaseKey> =
        outcomes.iter().map(|outcome| LeaseKey { job_id: outcome.job_id, epoch: outcome.epoch }).collect();
    let answers = match outcomes.is_empty() {
        true => Vec::new(),
        false => app.settle(worker, outcomes.into_iter().map(settlement).collect()).await?,
    };
    {
        let mut dispatcher = app.dispatcher();
        dispatcher.heard_from(worker, app.clock.now());
        for health in &probes {
            dispatcher.health_checked(&health.destination, health.healthy);
        }
    }
    if probes.iter().any(|health| health.healthy) {
        // A job of that destination may be tried at once.
        app.work.notify_waiters();
    }
    let results = keys.into_iter().zip(answers).map(|(key, answer)| result(key, answer)).collect();
    Ok(HttpResponse::Ok().json(SettleResponse { results }))
}

/// Refuses more leases in one message than [`MAX_SETTLE`].
pub(super) fn check_count(count: usize) -> Result<(), Problem> {
    if count > MAX_SETTLE {
        return Err(Problem::new(Code::TooManyItems, format!("at most {MAX_SETTLE} leases in one call")));
    }
    Ok(())
}

fn settlement(wire: WireOutcome) -> Settlement {
    let key = LeaseKey { job_id: wire.job_id, epoch: wire.epoch };
    let report = match wire.class {
        WireClass::Release => Report::Released,
        WireClass::Attempted(class) => Report::Attempted(Outcome {
            class,
            status: wire.status,
            latency: latency(wire.latency_ms),
            retry_after: wire.retry_after_ms.map(Duration::from_millis),
            error: wire.error.map(shorten),
            unknown: wire.unknown,
            response: wire.response.and_then(response),
        }),
    };
    Settlement { key, report }
}

/// Nonsense of a worker's clock counts as nothing rather than losing its report.
fn latency(millis: f64) -> Duration {
    Duration::try_from_secs_f64(millis / 1_000.0).unwrap_or_default()
}

fn shorten(mut text: String) -> String {
    let end = (0..=MAX_ERROR.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or(0));
    text
}

/// The answer as it is kept; `None` where its base64 is none, since half an answer would mislead.
fn response(wire: WireResponse) -> Option<Response> {
    let mut body = match (wire.body, wire.body_base64) {
        (Some(text), _) => Bytes::from(text),
        (None, Some(encoded)) => Bytes::from(STANDARD.decode(encoded).ok()?),
        (None, None) => Bytes::new(),
    };
    let truncated = wire.truncated || body.len() > Response::MAX_BODY;
    body.truncate(Response::MAX_BODY);
    Some(Response { content_type: wire.content_type, body, truncated })
}

fn result(key: LeaseKey, answer: SettleAnswer) -> WireSettled {
    match answer {
        SettleAnswer::UnknownJob => WireSettled {
            job_id: key.job_id,
            result: WireResult::UnknownJob,
            state: None,
            attempts: 0,
            retry_delay_ms: None,
        },
        SettleAnswer::Known { result, job, attempt, .. } => WireSettled {
            job_id: key.job_id,
            result: match result {
                SettleResult::Applied | SettleResult::Repeated => WireResult::Ok,
                SettleResult::LeaseLost => WireResult::LeaseLost,
                SettleResult::AlreadyFinished => WireResult::AlreadyFinished,
            },
            state: Some(job.state.name()),
            attempts: job.progress.attempts,
            retry_delay_ms: attempt
                .and_then(|attempt| attempt.retry_delay)
                .map(|delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_in_a_report_is_mended_rather_than_refused() {
        for nonsense in [-1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(latency(nonsense), Duration::ZERO);
        }
        assert_eq!(latency(1.5), Duration::from_micros(1_500));
        let wire = WireResponse { body_base64: Some("***".to_owned()), ..WireResponse::default() };
        assert_eq!(response(wire), None);
        let long = "ä".repeat(MAX_ERROR);
        assert_eq!(shorten(long).len(), MAX_ERROR);
    }

    #[test]
    fn no_more_of_an_answer_is_kept_than_the_limit() {
        let wire = WireResponse { body: Some("x".repeat(Response::MAX_BODY + 1)), ..WireResponse::default() };
        let kept = response(wire).expect("it is text");
        assert!(kept.truncated && kept.body.len() == Response::MAX_BODY);
    }
}
