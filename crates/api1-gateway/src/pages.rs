//! The dashboard: pages for the people who look after the gateway, at `/`.
//!
//! Rendered here, whole, from what the API handlers use, too; a script only fetches them again when an event says that something
//! has changed, and without it everything still works. One file a screen: it gathers what the screen shows into a view
//! model, says it in words, and hands it to a template of the same name.

pub(crate) mod answer;
mod assets;
mod chart;
mod form;
mod gate_words;
mod overview;
mod session;
mod shell;
pub(crate) mod viewer;
mod words;

use actix_web::web;

use crate::server::{get, get_and_post, post};

#[rustfmt::skip]
pub(crate) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(get("/", overview::overview))
        .service(get_and_post("/sign-in", session::ask, session::sign_in))
        .service(post("/sign-out", session::sign_out))
        .service(get("/assets/{name}", assets::asset));
}
