//! `GET /api1/jobs?state=&destination=&q=&limit=&cursor=` and further conditions: jobs, latest accepted first, page by page.

use actix_web::http::header::LINK;
use actix_web::{HttpRequest, HttpResponse, web};
use jobs_core::job::{DeadReason, DestinationName, StateName};
use jobs_core::store::Filter;
use jobs_core::time::Timestamp;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::cursor;
use crate::app::App;
use crate::auth::bearer;
use crate::problem::{Code, Problem};
use crate::query;
use crate::view::JobView;

const DEFAULT_LIMIT: u32 = 50;
/// Most jobs on a page: the store's own bound.
pub(crate) const MAX_LIMIT: u32 = 1_000;
/// Longest text to look for; the store may have to look through every payload for it.
pub(crate) const MAX_TEXT: usize = 255;

/// The parameters, for the API's description; [`read`] reads them.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only described")]
struct Conditions {
    state: Option<StateName>,
    destination: Option<DestinationName>,
    /// Text in the payload or the last error.
    #[param(max_length = 255)]
    q: Option<String>,
    /// Text in the last error.
    #[param(max_length = 255)]
    error: Option<String>,
    dead_reason: Option<DeadReason>,
    /// Whether an operator has settled it otherwise.
    resolved: Option<bool>,
    /// When it was accepted; each bound is included.
    created_from: Option<Timestamp>,
    created_until: Option<Timestamp>,
    /// When it ended.
    finished_from: Option<Timestamp>,
    finished_until: Option<Timestamp>,
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// All there are. An empty one counts as left out, as a page's form sends it.
const PARAMETERS: [&str; 12] = [
    "state",
    "destination",
    "q",
    "error",
    "dead_reason",
    "resolved",
    "created_from",
    "created_until",
    "finished_from",
    "finished_until",
    "limit",
    "cursor",
];

#[derive(Serialize, ToSchema)]
#[schema(as = JobList)]
struct List<'a> {
    jobs: Vec<JobView<'a>>,
    next_cursor: Option<&'a str>,
}

/// What was asked for.
pub(crate) struct Asked {
    pub(crate) filter: Filter,
    pub(crate) limit: u32,
    pub(crate) below: Option<u64>,
}

/// Lists jobs, latest accepted first
///
/// A page may be short, even empty, and still have a `next_cursor`: it ends when its time is over.
#[utoipa::path(get, path = "/api1/jobs", tag = "Jobs", params(Conditions),
    responses((status = 200, body = List, description = "A page of jobs, without their attempts"), (status = 400)))]
pub(crate) async fn list(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    app.keys.client(bearer(&request))?;
    let Asked { filter, limit, below } = read(query::pairs(&request)?)?;
    let page = app.store.list(filter.clone(), below, limit).await?;
    let next = page.next.map(|below| cursor::encode(&filter, below));
    let mut answer = HttpResponse::Ok();
    if let Some(cursor) = &next {
        answer.insert_header((LINK, link(request.query_string(), cursor)));
    }
    let jobs = page.jobs.iter().map(JobView::summary).collect();
    Ok(answer.json(List { jobs, next_cursor: next.as_deref() }))
}

/// The query of a list, as callers and pages write it.
pub(crate) fn read(pairs: Vec<(String, String)>) -> Result<Asked, Problem> {
    let mut filter = Filter::default();
    let (mut limit, mut cursor) = (DEFAULT_LIMIT, None);
    for (name, value) in pairs {
        let bad = |detail: String| Problem::with(Code::BadQuery, name.clone(), detail);
        match name.as_str() {
            name if PARAMETERS.contains(&name) && value.is_empty() => {}
            "state" => {
                let known = || StateName::ALL.map(StateName::as_str).join(", ");
                let state = value.parse().map_err(|()| bad(format!("{value:?} is not one of {}", known())))?;
                filter.state = Some(state);
            }
            "destination" => filter.destination = Some(value.parse().map_err(|error| bad(format!("{error}")))?),
            "q" | "error" if value.len() > MAX_TEXT => return Err(bad(format!("at most {MAX_TEXT} bytes"))),
            "q" => filter.text = Some(value),
            "error" => filter.error = Some(value),
            "dead_reason" => {
                let reason = serde_json::from_value(value.clone().into());
                filter.dead_reason = Some(reason.map_err(|_| bad(format!("{value:?} is no reason to be dead")))?);
            }
            "resolved" => {
                filter.resolved = Some(value.parse().map_err(|_| bad(format!("{value:?} is not true or false")))?);
            }
            "created_from" => filter.created_from = Some(value.parse().map_err(|error| bad(format!("{error}")))?),
            "created_until" => filter.created_until = Some(value.parse().map_err(|error| bad(format!("{error}")))?),
            "finished_from" => filter.finished_from = Some(value.parse().map_err(|error| bad(format!("{error}")))?),
            "finished_until" => filter.finished_until = Some(value.parse().map_err(|error| bad(format!("{error}")))?),
            "limit" => limit = query::limit(&value, MAX_LIMIT)?,
            "cursor" => cursor = Some(value),
            _ => return Err(query::unknown(name)),
        }
    }
    let below = cursor.map(|cursor| cursor::decode(&filter, &cursor)).transpose()?;
    Ok(Asked { filter, limit, below })
}

/// The next page's address: this one's query, with the other cursor.
fn link(query: &str, cursor: &str) -> String {
    let kept = query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("cursor="));
    let kept: String = kept.flat_map(|pair| [pair, "&"]).collect();
    format!(r#"</api1/jobs?{kept}cursor={cursor}>; rel="next""#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_to_the_next_page_keeps_the_filter() {
        assert_eq!(link("", "c"), r#"</api1/jobs?cursor=c>; rel="next""#);
        assert_eq!(link("state=dead&cursor=a&q=a%20b", "c"), r#"</api1/jobs?state=dead&q=a%20b&cursor=c>; rel="next""#);
    }
}
