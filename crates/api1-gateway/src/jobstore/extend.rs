//! `POST /jobstore/v1/extend`: a worker's heartbeat. It renews the leases it lists and no others. The answer also names the
//! destinations that are held, so that what was not sent to them is not.

use std::collections::BTreeSet;

use actix_web::{HttpRequest, HttpResponse, web};
use jobs_core::lease::LEASE_TERM;
use jobs_core::protocol::{ExtendRequest, ExtendResponse};

use super::{MESSAGE, settle::check_count};
use crate::app::App;
use crate::auth::bearer;
use crate::body;
use crate::problem::Problem;

pub(crate) async fn extend(
    app: web::Data<App>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    app.keys.worker(bearer(&request))?;
    let ExtendRequest { worker, holding } = body::message(&body::read(&request, payload, MESSAGE).await?)?;
    check_count(holding.len())?;
    let now = app.clock.now();
    let extended = app.store.extend(worker, holding, now).await?;
    app.dispatcher().heard_from(worker, now);
    let left = LEASE_TERM.saturating_sub(app.clock.now().mono.since(now.mono));
    Ok(HttpResponse::Ok().json(ExtendResponse {
        lease_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
        lost: extended.lost,
        cancel: extended.cancel,
        release: app.dispatcher().releases(worker, &BTreeSet::new()),
    }))
}
