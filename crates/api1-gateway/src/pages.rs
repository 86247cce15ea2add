//! The dashboard: pages for the people who look after the gateway, at `/`.
//!
//! Rendered here, whole, from what the API handlers use, too; a script only fetches them again when an event says that something
//! has changed, and without it everything still works. One file a screen: it gathers what the screen shows into a view
//! model, says it in words, and hands it to a template of the same name.

mod all_jobs;
pub(crate) mod answer;
mod assets;
mod body_view;
mod chart;
mod dead_letters;
mod destination;
mod drill;
mod edit;
mod filter;
mod form;
mod gate_words;
mod job;
mod jobs;
mod outcome_words;
mod overview;
mod redrive;
mod session;
mod settings_words;
mod shell;
pub(crate) mod viewer;
mod why;
mod words;

use actix_web::web;

use crate::server::{get, get_and_post, post};

#[rustfmt::skip]
pub(crate) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(get("/", overview::overview))
        .service(get("/destinations/{name}", destination::destination))
        .service(post("/destinations/{name}/pause", destination::pause))
        .service(post("/destinations/{name}/resume", destination::resume))
        .service(get("/jobs", jobs::jobs))
        .service(get_and_post("/jobs/all", all_jobs::confirm, all_jobs::begin))
        .service(get("/jobs/all/{number}", all_jobs::progress))
        .service(post("/jobs/all/{number}/stop", all_jobs::stop))
        .service(get("/jobs/{id}", job::job))
        .service(get("/jobs/{id}/payload", job::payload))
        .service(get("/jobs/{id}/response", job::response))
        .service(post("/jobs/{id}/cancel", job::cancel))
        .service(post("/jobs/{id}/redrive", job::redrive))
        .service(get_and_post("/jobs/{id}/edit", edit::ask, edit::edit))
        .service(post("/jobs/{id}/resolve", edit::resolve))
        .service(get("/dead-letters", dead_letters::dead_letters))
        .service(post("/dead-letters/redrive", dead_letters::redrive))
        .service(get("/redrives/{number}", redrive::redrive))
        .service(post("/redrives/{number}/{verb}", redrive::change))
        .service(get("/drill/{name}", drill::drill))
        .service(post("/drill/{name}/{verb}", drill::steer))
        .service(get_and_post("/sign-in", session::ask, session::sign_in))
        .service(post("/sign-out", session::sign_out))
        .service(get("/assets/{name}", assets::asset));
}
