//! `POST /api1/process` and `POST /api1/process/{destination}`: the original design's one call. The body is the payload.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use jobs_core::callback::Callback;
use jobs_core::job::{DestinationName, IdempotencyKey, JobId, NewJob, Request, StateName};
use jobs_core::process::clock;
use jobs_core::store::Enqueued;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::wait::until_ended;
use crate::app::{App, Listed};
use crate::auth::bearer;
use crate::body;
use crate::options::{self, OptionHeaders, Options};
use crate::problem::{Code, Problem};
use crate::view::JobView;

/// The answer to an accepted request, for the API's description; [`accepted`] writes it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only described")]
struct Receipt {
    id: JobId,
    state: StateName,
    destination: DestinationName,
    #[schema(example = "Request received. Will process when API 2 recovers.")]
    message: String,
}

/// Stores a job for the default destination
///
/// The body is the payload, kept byte for byte; the answer leaves once the job is on disk.
#[utoipa::path(post, path = "/api1/process", tag = "Sending", params(OptionHeaders),
    request_body(content = Value, description = "The payload: any bytes; with a JSON content type, JSON"),
    responses(
        (status = 202, body = Receipt, description = "Stored"),
        (status = 200, body = JobView, description = "With `Prefer: wait`: the job, which has ended"),
        (status = 404), (status = 415), (status = 422), (status = 429), (status = 431),
    ))]
pub(crate) async fn process_default(
    app: web::Data<App>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let scope = app.keys.client(bearer(&request))?;
    let catalog = app.catalog();
    process(&app, scope, catalog.find_default()?, &request, payload).await
}

/// Stores a job for a destination
///
/// The body is the payload, kept byte for byte; the answer leaves once the job is on disk.
#[utoipa::path(post, path = "/api1/process/{destination}", tag = "Sending",
    params(("destination" = DestinationName, Path), OptionHeaders),
    request_body(content = Value, description = "The payload: any bytes; with a JSON content type, JSON"),
    responses(
        (status = 202, body = Receipt, description = "Stored"),
        (status = 200, body = JobView, description = "With `Prefer: wait`: the job, which has ended"),
        (status = 404), (status = 415), (status = 422), (status = 429), (status = 431),
    ))]
pub(crate) async fn process_named(
    app: web::Data<App>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let scope = app.keys.client(bearer(&request))?;
    let catalog = app.catalog();
    let listed = catalog.find(request.match_info().get("destination").unwrap_or_default())?;
    process(&app, scope, listed, &request, payload).await
}

async fn process(
    app: &Arc<App>,
    scope: &str,
    listed: &Listed,
    request: &HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    app.check_space()?;
    let options = Options::from_headers(request.headers(), app.clock.now().wall, &[])?;
    body::refuse_encoded(request)?;
    let content_type = body::content_type(request)?;
    let body = body::read(request, payload, app.limits.payload).await?;
    if body.is_empty() {
        return Err(Problem::new(Code::EmptyBody, "send a payload; /forward also keeps requests without one"));
    }
    if content_type.is_some_and(body::is_json) {
        body::check_json(&body)?;
    }
    let content = Request { content_type: content_type.map(str::to_owned), body, ..Request::default() };
    app.check_rate(scope, 1)?;
    accept(app, scope, listed, content, options).await
}

/// Stores one job and answers for it.
pub(super) async fn accept(
    app: &Arc<App>,
    scope: &str,
    listed: &Listed,
    content: Request,
    options: Options,
) -> Result<HttpResponse, Problem> {
    let wait = options.wait;
    check_callback(app, &options, "Job-Callback")?;
    let job = new_job(app, scope, listed, content, options, "Job-Expires-After")?;
    let traceparent = job.traceparent.clone();
    let answer = app.enqueue_one(job).await?;
    let (id, state, replayed) = outcome(Some(answer), "Idempotency-Key")?;
    let mut answer = match wait {
        Some(patience) => wait_for_end(app, id, state, listed, replayed, patience).await,
        None => accepted(id, state, listed, replayed),
    };
    if let Some(value) = traceparent.and_then(|text| HeaderValue::try_from(text).ok()) {
        answer.headers_mut().insert(HeaderName::from_static("traceparent"), value);
    }
    Ok(answer)
}

/// A job of `content`, with an id of its own. `scope`: whose idempotency keys these are. `expiry`: where its expiry is said.
pub(super) fn new_job(
    app: &App,
    scope: &str,
    listed: &Listed,
    content: Request,
    options: Options,
    expiry: &'static str,
) -> Result<NewJob, Problem> {
    let now = app.clock.now().wall;
    let run_at = options.start.run_at(now);
    let expires_after = options.expires_after.or(listed.settings.policy.expires_after);
    options::check_runs_before_expiry(expiry, run_at, expires_after, now)?;
    let destination = listed.settings.name.clone();
    let idempotency = options.idempotency_key.map(|key| IdempotencyKey {
        scope: scope.to_owned(),
        key,
        fingerprint: fingerprint(destination.as_str(), &content),
    });
    let still_trying_after = app.limits.still_trying_after;
    Ok(NewJob {
        id: JobId(clock::new_job_uuid()),
        id_is_new: true,
        destination,
        request: content,
        idempotency,
        run_at,
        expires_after,
        priority: options.priority.unwrap_or_default(),
        ordering_key: options.ordering_key,
        max_attempts: options.max_attempts,
        traceparent: options.traceparent,
        redriven_from: None,
        callback: options.callback.map(|destination| Callback { destination, still_trying_after }),
    })
}

/// Refuses a callback to a destination that there is not. `parameter`: where it was asked for.
pub(super) fn check_callback(app: &App, options: &Options, parameter: &'static str) -> Result<(), Problem> {
    match &options.callback {
        Some(name) if app.catalog().find(name.as_str()).is_err() => {
            Err(Problem::with(Code::BadOption, parameter, format_args!("{:?} is not configured here", name.as_str())))
        }
        Some(_) | None => Ok(()),
    }
}

/// SHA-256 over destination, method, path, content type and body, each with its length before it.
fn fingerprint(destination: &str, content: &Request) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut part = |present: bool, bytes: &[u8]| {
        hash.update([u8::from(present)]);
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(true, destination.as_bytes());
    for optional in [&content.method, &content.path, &content.content_type] {
        part(optional.is_some(), optional.as_deref().unwrap_or_default().as_bytes());
    }
    part(true, &content.body);
    hash.finalize().into()
}

/// Which job stands for the request now, in which state, and whether it came before. `parameter`: where its key was.
pub(super) fn outcome(answer: Option<Enqueued>, parameter: &'static str) -> Result<(JobId, StateName, bool), Problem> {
    match answer {
        Some(Enqueued::Accepted(job)) => Ok((job.id, job.state.name(), false)),
        Some(Enqueued::Replayed { id, state }) => Ok((id, state, true)),
        Some(Enqueued::KeyReused { id }) => {
            let detail = format!("it belongs to job {id}; use another key for another request");
            Err(Problem::with(Code::KeyReused, parameter, detail))
        }
        None => {
            log::error!("the store answered an enqueue with nothing");
            Err(Problem::new(Code::Internal, "the reason is in the gateway's log"))
        }
    }
}

fn accepted(id: JobId, state: StateName, listed: &Listed, replayed: bool) -> HttpResponse {
    let mut text = String::with_capacity(listed.receipt.len() + 80);
    text.push_str(r#"{"id":""#);
    text.push_str(id.0.hyphenated().encode_lower(&mut [0; 36]));
    text.push_str(r#"","state":""#);
    text.push_str(state.as_str());
    text.push_str(&listed.receipt);
    answer(HttpResponse::Accepted(), id, replayed).insert_header((CONTENT_TYPE, "application/json")).body(text)
}

fn answer(mut builder: HttpResponseBuilder, id: JobId, replayed: bool) -> HttpResponseBuilder {
    builder.insert_header((LOCATION, format!("/api1/jobs/{id}")));
    if replayed {
        builder.insert_header(("Idempotency-Replayed", "true"));
    }
    builder
}

/// 200 with the job if it ends in time, else 202 as without waiting: also if it cannot be read, for it is stored. `state`: as
/// the job was stored.
async fn wait_for_end(
    app: &App,
    id: JobId,
    state: StateName,
    listed: &Listed,
    replayed: bool,
    patience: Duration,
) -> HttpResponse {
    let found = match until_ended(app, id, patience).await {
        Ok(found) => found,
        Err(error) => {
            log::warn!(job:% = id, error:% = error; "nobody waits any more for the end of a job: it could not be read");
            None
        }
    };
    let applied = ("Preference-Applied", format!("wait={}", patience.as_secs()));
    match found {
        Some(found) if found.job.state.name().is_terminal() => answer(HttpResponse::Ok(), id, replayed)
            .insert_header(applied)
            .json(JobView::whole(&found.job, &found.attempts, found.resolution.as_ref())),
        Some(found) => accepted(id, found.job.state.name(), listed, replayed),
        // Ended and purged while we waited, or not readable.
        None => accepted(id, state, listed, replayed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn whatever_makes_another_request_makes_another_fingerprint() {
        let base = Request { body: Bytes::from_static(b"{}"), ..Request::default() };
        let some = |text: &str| Some(text.to_owned());
        let variants = [
            base.clone(),
            Request { body: Bytes::from_static(b"{} "), ..base.clone() },
            Request { method: some("PUT"), ..base.clone() },
            Request { path: some("PUT"), ..base.clone() },
            Request { path: some(""), ..base.clone() },
            Request { content_type: some("application/json"), ..base.clone() },
        ];
        let mut prints: Vec<[u8; 32]> = variants.iter().map(|request| fingerprint("api2", request)).collect();
        prints.push(fingerprint("api3", &base));
        prints.sort_unstable();
        prints.dedup();
        assert_eq!(prints.len(), variants.len() + 1);
    }
}
