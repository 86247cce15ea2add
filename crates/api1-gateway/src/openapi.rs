//! `GET /openapi.json`: the public API, described from its handlers and types. `GET /docs` shows the same for people.
//!
//! Handlers say what is theirs alone; what all have in common (how errors look, who is let in) is added here, once. Left out: the
//! job store, which is between gateway and worker, and `/forward`, which is whatever the destination's own API is.

pub(crate) mod page;

use std::sync::LazyLock;

use actix_web::HttpResponse;
use actix_web::http::header::CONTENT_TYPE;
use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use crate::problem::{PROBLEM_JSON, ProblemView, TABLE};
use crate::public::{
    audit, backup, cancel, destinations, events, job_events, jobs, list, process, read, redrive, redrives, resolve,
    stats,
};
use crate::{health, metrics};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Holdfast",
        description = "Stores calls to unreliable APIs durably, answers at once, and makes them until they succeed. \
            Delivery is at least once: every attempt of a job carries the same `Idempotency-Key`.",
        license(name = "MIT OR Apache-2.0")
    ),
    paths(
        process::process_default,
        process::process_named,
        jobs::jobs,
        list::list,
        read::job,
        read::payload,
        read::response,
        job_events::job_events,
        cancel::cancel,
        redrive::redrive,
        resolve::resolve,
        redrives::start,
        redrives::list,
        redrives::one,
        redrives::stop,
        redrives::resume,
        audit::audit,
        destinations::list,
        destinations::one,
        destinations::pause,
        destinations::resume,
        stats::stats,
        events::events,
        backup::backup,
        health::livez,
        health::readyz,
        metrics::metrics,
        health::problems,
        health::problem,
    ),
    components(schemas(ProblemView)),
    tags(
        (name = "Sending", description = "Handing in jobs"),
        (name = "Jobs", description = "What became of them"),
        (name = "Steering", description = "What operators do to jobs"),
        (name = "Destinations", description = "The APIs that are called"),
        (name = "Operation", description = "Health, metrics, backup, and the codes of problems"),
    )
)]
struct Handlers;

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let mut document = serde_json::to_value(Handlers::openapi()).expect("a description is plain JSON");
    complete(&mut document);
    document
});

static TEXT: LazyLock<String> = LazyLock::new(|| format!("{:#}\n", *DOCUMENT));

pub(crate) async fn openapi() -> HttpResponse {
    HttpResponse::Ok().insert_header((CONTENT_TYPE, "application/json")).body(TEXT.as_str())
}

/// Adds what all operations have in common.
fn complete(document: &mut Value) {
    document["components"]["securitySchemes"] = json!({"key": {"type": "http", "scheme": "bearer"}});
    let Some(paths) = document["paths"].as_object_mut() else { return };
    for (path, item) in paths {
        for operation in item.as_object_mut().into_iter().flat_map(Map::values_mut) {
            complete_operation(path, operation);
        }
    }
}

fn complete_operation(path: &str, operation: &mut Value) {
    let mut common = Vec::new();
    if path.starts_with("/api1/") {
        // A role without configured keys is open to everybody.
        operation["security"] = json!([{}, {"key": []}]);
        common.extend([401, 403, 500, 503]);
    }
    if operation.get("requestBody").is_some() {
        common.extend([400, 408, 413]);
    }
    let Some(responses) = operation["responses"].as_object_mut() else { return };
    for status in common {
        responses.entry(status.to_string()).or_insert_with(|| json!({}));
    }
    for (status, response) in responses {
        let status: u16 = status.parse().unwrap_or_default();
        if status >= 400 {
            let codes = TABLE.iter().filter(|row| row.status == status).map(|row| format!("`{}`", row.name));
            let description = codes.collect::<Vec<_>>().join(", ");
            let schema = json!({"$ref": "#/components/schemas/Problem"});
            *response = json!({"description": description, "content": {PROBLEM_JSON: {"schema": schema}}});
        } else if response["description"] == "" {
            response["description"] = "Done".into();
        }
    }
}
