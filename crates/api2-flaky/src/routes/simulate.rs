//! The API itself: whatever the weather says, and a line in the ledger.

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, ContentType, RETRY_AFTER};
use actix_web::web::{Data, Payload as BodyStream};
use actix_web::{HttpRequest, HttpResponse};

use super::{BODY_LIMIT, read_body};
use crate::connection::{Break, broken};
use crate::drill::Decision;
use crate::ledger::{Arrival, End, Payload};
use crate::problem::Problem;
use crate::state::State;

const PROCESSED: &str = "API 2 processed payload";
const IS_DOWN: &str = "API 2 is down";

/// `POST /api2/simulate`. A body that is too long or never arrives in full is refused and not counted.
pub(super) async fn simulate(
    request: HttpRequest,
    body: BodyStream,
    state: Data<State>,
) -> Result<HttpResponse, Problem> {
    let body = read_body(body, BODY_LIMIT).await?;
    let target = request.uri().path_and_query().map_or("", |target| target.as_str());
    let key = header(&request, "Idempotency-Key");
    let visit = state.arrive(Arrival {
        key,
        attempt: header(&request, "Job-Attempt").and_then(|text| text.parse().ok()),
        epoch: header(&request, "Job-Epoch").and_then(|text| text.parse().ok()),
        method: request.method().as_str(),
        target,
        bytes: body.len(),
        crc32: crc32fast::hash(&body),
    });
    if let Some(key) = key {
        let content_type = header(&request, CONTENT_TYPE.as_str()).map(ToOwned::to_owned);
        state.ledger(|ledger| ledger.keep_payload(key, Payload { content_type, body }));
    }
    let response = match visit.decision {
        Decision::Answer { status, retry_after, delay } => {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            visit.end(End::Answered(status));
            let status = StatusCode::from_u16(status).expect("a weather's status is 200 or 300 to 599");
            let mut response = HttpResponse::build(status);
            if let Some(retry_after) = retry_after {
                // The header has no fractions: round up, never early.
                let seconds = retry_after.as_millis().div_ceil(1_000);
                response.insert_header((RETRY_AFTER, seconds.to_string()));
            }
            let text = if status.is_success() { PROCESSED } else { IS_DOWN };
            response.content_type(ContentType::plaintext()).body(text)
        }
        Decision::Reset | Decision::Refuse => {
            visit.end(End::Reset);
            broken(&request, Break::Reset)
        }
        Decision::Hang => {
            visit.weather_over().await;
            visit.end(End::Closed);
            broken(&request, Break::Close)
        }
    };
    Ok(response)
}

fn header<'a>(request: &'a HttpRequest, name: &str) -> Option<&'a str> {
    request.headers().get(name)?.to_str().ok()
}
