//! How a page is answered: its headers, and what becomes of a request that cannot have it.

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use actix_web::{HttpResponse, HttpResponseBuilder, ResponseError};
use askama::Template;
use jobs_core::store::StoreError;

use super::assets;
use crate::problem::{Code, Problem};

/// Nothing but our own files, nothing inline, no frame around us. A payload that gets past the escaping still runs nowhere.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// A whole page.
pub(super) fn page(template: &impl Template) -> Result<HttpResponse, Refusal> {
    render(HttpResponse::Ok(), template)
}

fn render(mut answer: HttpResponseBuilder, template: &impl Template) -> Result<HttpResponse, Refusal> {
    let html = template.render().map_err(|error| {
        log::error!(error:% = error; "a page could not be rendered");
        Problem::new(Code::Internal, "the reason is in the gateway's log")
    })?;
    Ok(secured(&mut answer).insert_header((CONTENT_TYPE, "text/html; charset=utf-8")).body(html))
}

/// On to another page, which the browser gets with GET.
pub(super) fn see_other(to: &str) -> HttpResponse {
    secured(&mut HttpResponse::SeeOther()).insert_header((LOCATION, to)).finish()
}

fn secured(answer: &mut HttpResponseBuilder) -> &mut HttpResponseBuilder {
    answer
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((X_FRAME_OPTIONS, "DENY"))
        // Not "no-referrer": with it a browser hides a form's origin, by which we know our own.
        .insert_header((REFERRER_POLICY, "same-origin"))
        .insert_header((CACHE_CONTROL, "no-store"))
}

/// Why a request does not get its page.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Who asks must sign in first, and then goes on there.
    SignIn {
        next: String,
    },
    Problem(Problem),
}

#[derive(Template)]
#[template(path = "refusal.html")]
struct Page<'a> {
    version: &'static str,
    title: &'a str,
    detail: String,
    code: &'a str,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::SignIn { .. } => f.write_str("sign in first"),
            Refusal::Problem(problem) => problem.fmt(f),
        }
    }
}

impl ResponseError for Refusal {
    fn status_code(&self) -> StatusCode {
        match self {
            Refusal::SignIn { .. } => StatusCode::SEE_OTHER,
            Refusal::Problem(problem) => problem.status_code(),
        }
    }

    fn error_response(&self) -> HttpResponse {
        match self {
            Refusal::SignIn { next } => see_other(&format!("/sign-in?{}", super::words::query(&[("next", next)]))),
            Refusal::Problem(problem) => {
                let row = problem.code().row();
                let page = Page {
                    version: &assets::VERSION,
                    title: row.title,
                    detail: problem.detail().to_owned(),
                    code: row.name,
                };
                let answer = HttpResponse::build(problem.status_code());
                render(answer, &page).unwrap_or_else(|_| problem.error_response())
            }
        }
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Refusal::Problem(problem)
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Refusal::Problem(error.into())
    }
}
