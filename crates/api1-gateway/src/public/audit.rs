//! `GET /api1/audit?limit=&cursor=`: who did what, the latest first.

use actix_web::{HttpRequest, HttpResponse, web};
use jobs_core::steering::AuditLine;
use serde::Serialize;
use utoipa::ToSchema;

use super::list::MAX_LIMIT;
use crate::app::App;
use crate::auth::bearer;
use crate::problem::{Code, Problem};
use crate::query;

const DEFAULT_LIMIT: u32 = 100;

#[derive(Serialize, ToSchema)]
struct Audit {
    audit: Vec<AuditLine>,
    /// Where the page of older lines begins; `null` at the end.
    next_cursor: Option<String>,
}

/// Shows who did what, the latest first
#[utoipa::path(get, path = "/api1/audit", tag = "Steering",
    params(("limit" = Option<u32>, Query, minimum = 1, maximum = 1000), ("cursor" = Option<String>, Query)),
    responses((status = 200, body = Audit), (status = 400)))]
pub(crate) async fn audit(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    app.keys.operator(bearer(&request))?;
    let (mut limit, mut below) = (DEFAULT_LIMIT, None);
    for (name, value) in query::pairs(&request)? {
        match name.as_str() {
            "limit" => limit = query::limit(&value, MAX_LIMIT)?,
            "cursor" => {
                let refuse = |_| Problem::with(Code::BadCursor, "cursor", "use it as it was given");
                below = Some(value.parse().map_err(refuse)?);
            }
            _ => return Err(query::unknown(name)),
        }
    }
    let audit = app.store.audit(below, limit).await?;
    let is_full = audit.len() as u64 == u64::from(limit);
    let next = audit.last().filter(|line| is_full && line.number > 1).map(|line| line.number.to_string());
    Ok(HttpResponse::Ok().json(Audit { audit, next_cursor: next }))
}
