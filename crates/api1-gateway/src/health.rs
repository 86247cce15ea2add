//! `/livez`: the process runs. `/readyz`: it can serve. `/problems`: what errors mean.

use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpResponse, web};
use utoipa::ToSchema;

use crate::app::App;
use crate::problem::{Code, Problem, Row, TABLE};

/// The answer to a probe, for the API's description.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only described")]
struct Health {
    #[schema(example = "ready")]
    status: String,
}

/// Says that the process runs
#[utoipa::path(get, path = "/livez", tag = "Operation", responses((status = 200, body = Health)))]
pub(crate) async fn livez() -> HttpResponse {
    HttpResponse::Ok().insert_header((CONTENT_TYPE, "application/json")).body(r#"{"status":"alive"}"#)
}

/// The store was opened before anything is served, and a broken one sets the shutdown off.
/// Says whether it can serve
#[utoipa::path(get, path = "/readyz", tag = "Operation", responses((status = 200, body = Health), (status = 503)))]
pub(crate) async fn readyz(app: web::Data<App>) -> Result<HttpResponse, Problem> {
    app.check_not_draining()?;
    Ok(HttpResponse::Ok().insert_header((CONTENT_TYPE, "application/json")).body(r#"{"status":"ready"}"#))
}

/// `GET /problems`: the codes of all error answers.
/// Lists the codes of all problems
#[utoipa::path(get, path = "/problems", tag = "Operation", responses((status = 200, body = Vec<Row>)))]
pub(crate) async fn problems() -> HttpResponse {
    HttpResponse::Ok().json(TABLE.as_slice())
}

/// `GET /problems/{code}`: where the `type` of an error answer leads.
/// Explains a code, which is where the `type` of a problem leads
#[utoipa::path(get, path = "/problems/{code}", tag = "Operation", params(("code" = String, Path, example = "bad_json")),
    responses((status = 200, body = Row), (status = 404)))]
pub(crate) async fn problem(request: actix_web::HttpRequest) -> Result<HttpResponse, Problem> {
    let name = request.match_info().get("code").unwrap_or_default();
    let found = TABLE.iter().find(|row| row.name == name);
    let row = found.ok_or_else(|| Problem::new(Code::NoSuchRoute, "no such code; all are at /problems"))?;
    Ok(HttpResponse::Ok().json(row))
}
