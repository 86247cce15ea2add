//! Who looks at a page: by the cookie that signing in leaves, or by a bearer key as the API takes it.
//!
//! Where no keys are configured everybody may do everything, as with the API.

use actix_web::HttpRequest;
use actix_web::http::{Method, header};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::answer::Refusal;
use crate::app::App;
use crate::auth::bearer;
use crate::problem::Code;

pub(super) const COOKIE: &str = "holdfast_key";

/// Somebody who may look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Viewer {
    /// The principal, for the audit log.
    pub(crate) by: String,
    /// May also do what only operators do.
    pub(crate) may_steer: bool,
    /// There is a cookie to be rid of.
    pub(crate) signed_in: bool,
}

impl Viewer {
    /// Whoever may read jobs may look.
    pub(super) fn of(app: &App, request: &HttpRequest) -> Result<Self, Refusal> {
        let key = presented(request);
        let by = app.keys.client(key.as_deref()).map_err(|problem| refused(request, problem))?.to_owned();
        let may_steer = app.keys.operator(key.as_deref()).is_ok();
        Ok(Viewer { by, may_steer, signed_in: cookie(request).is_some() })
    }

    /// Only an operator.
    pub(super) fn operator(app: &App, request: &HttpRequest) -> Result<Self, Refusal> {
        let viewer = Viewer::of(app, request)?;
        let key = presented(request);
        let by = app.keys.operator(key.as_deref()).map_err(|problem| refused(request, problem))?.to_owned();
        Ok(Viewer { by, ..viewer })
    }
}

/// Whoever shows no key is asked for one; a key that may not do this is told so.
fn refused(request: &HttpRequest, problem: crate::problem::Problem) -> Refusal {
    if problem.code() != Code::Unauthenticated {
        return problem.into();
    }
    let here = request.uri().path_and_query().map_or("/", |here| here.as_str());
    // What was posted is gone after a sign-in: begin anew.
    let next = if request.method() == Method::POST { "/" } else { here };
    Refusal::SignIn { next: next.to_owned() }
}

/// The key that `request` shows.
pub(crate) fn presented(request: &HttpRequest) -> Option<String> {
    if let Some(key) = bearer(request) {
        return Some(key.to_owned());
    }
    String::from_utf8(URL_SAFE_NO_PAD.decode(cookie(request)?).ok()?).ok()
}

/// The value of our cookie.
fn cookie(request: &HttpRequest) -> Option<&str> {
    let sent = request.headers().get_all(header::COOKIE).filter_map(|value| value.to_str().ok());
    let mut pairs = sent.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, value)| value)
}
