//! `POST /api1/jobs/{id}/redrive`: an operator wants the job tried again, as it is or with another payload.

use actix_web::http::header::LOCATION;
use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jobs_core::job::{JobId, Request};
use jobs_core::lifecycle::Redrive;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{done, job_id, unknown_job};
use crate::app::App;
use crate::auth::bearer;
use crate::body::{self, Bounds};
use crate::headers;
use crate::problem::{Code, Problem};
use crate::view::JobView;

/// What a payload given as JSON is sent as, where nothing else is said.
const JSON: &str = "application/json";

/// The body, if there is one.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = Redrive, example = json!({"payload": {"amount": 12.5}}))]
struct Asked {
    /// The destination is to receive another `Idempotency-Key`, because it answers the old one from memory.
    new_key: bool,
    /// Another payload: any JSON, kept as it is written.
    #[serde(deserialize_with = "present")]
    #[schema(value_type = Option<Value>)]
    payload: Option<Box<RawValue>>,
    /// Or any bytes.
    payload_base64: Option<String>,
    /// Of the other payload; unless given, JSON is sent as JSON, and bytes as the old payload was.
    content_type: Option<String>,
}

/// A `null` is a payload.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::deserialize(deserializer).map(Some)
}

/// 200 with the job; or 202 with the new one where there is another payload.
/// Tries a job again, as it is or with another payload
///
/// A dead or cancelled job is pending again; a waiting one is due at once. With another payload a new job takes its place.
#[utoipa::path(post, path = "/api1/jobs/{id}/redrive", tag = "Steering", params(("id" = JobId, Path)),
    request_body(content = Option<Asked>),
    responses(
        (status = 200, body = JobView, description = "Redriven"),
        (status = 202, body = JobView, description = "The new job with the other payload"),
        (status = 404), (status = 409),
    ))]
pub(crate) async fn redrive(
    app: web::Data<App>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let by = app.keys.operator(bearer(&request))?;
    let id = job_id(&request)?;
    // A payload in base64 is a third longer.
    let max_bytes = app.limits.payload.max_bytes / 3 * 4 + 4_096;
    let body = body::read(&request, payload, Bounds { max_bytes, ..app.limits.payload }).await?;
    let asked: Asked = if body.is_empty() { Asked::default() } else { body::message(&body)? };
    match asked {
        Asked { payload: None, payload_base64: None, content_type: None, new_key } => {
            as_it_is(&app, id, new_key, by).await
        }
        edit => edited(&app, id, edit, by).await,
    }
}

async fn as_it_is(app: &web::Data<App>, id: JobId, new_key: bool, by: &str) -> Result<HttpResponse, Problem> {
    let (answer, job) = app.redrive(id, new_key, by).await?.ok_or_else(|| unknown_job(id))?;
    match answer {
        Redrive::Redriven | Redrive::RunNow => {}
        Redrive::Leased => return Err(Problem::new(Code::WrongState, "a worker has the job in hand")),
        Redrive::Succeeded => return Err(Problem::new(Code::WrongState, "the job has succeeded")),
    }
    Ok(done(app, &job, HttpResponse::Ok()).await)
}

async fn edited(app: &web::Data<App>, id: JobId, edit: Asked, by: &str) -> Result<HttpResponse, Problem> {
    app.check_space()?;
    let (content_type, body) = content(edit, app.limits.payload.max_bytes)?;
    let change = move |request: &mut Request| {
        request.body = body;
        request.content_type = content_type.or(request.content_type.take());
    };
    let job = app.edit_and_redrive(id, change, by).await?;
    let mut answer = HttpResponse::Accepted();
    answer.insert_header((LOCATION, format!("/api1/jobs/{}", job.id)));
    Ok(done(app, &job, answer).await)
}

/// The content type, where it is another, and the body.
fn content(edit: Asked, max_payload: usize) -> Result<(Option<String>, Bytes), Problem> {
    let bad = |name: &'static str, detail: &str| Err(Problem::with(Code::BadMessage, name, detail));
    if edit.new_key {
        return bad("new_key", "an edited job has a key of its own");
    }
    if let Some(given) = &edit.content_type {
        headers::check_value(given).map_err(|detail| Problem::with(Code::BadHeader, "content_type", detail))?;
    }
    let (content_type, body) = match (edit.payload, edit.payload_base64) {
        (Some(json), None) => {
            let kind = edit.content_type.unwrap_or_else(|| JSON.to_owned());
            (Some(kind), Bytes::copy_from_slice(json.get().as_bytes()))
        }
        (None, Some(encoded)) => match STANDARD.decode(encoded) {
            Ok(bytes) => (edit.content_type, Bytes::from(bytes)),
            Err(error) => return bad("payload_base64", &format!("not base64: {error}")),
        },
        (Some(_), Some(_)) => return bad("payload_base64", "give payload or payload_base64, not both"),
        (None, None) => return bad("payload", "missing; give payload or payload_base64"),
    };
    if body.len() > max_payload {
        return Err(body::too_large(max_payload));
    }
    if content_type.as_deref().is_some_and(body::is_json) {
        body::check_json(&body)?;
    }
    Ok((content_type, body))
}
