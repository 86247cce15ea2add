//! Query parameters. An unknown one is refused: a misspelt filter would quietly answer everything.

use actix_web::{HttpRequest, web};

use crate::problem::{Code, Problem};

/// The decoded parameters, in order.
pub(crate) fn pairs(request: &HttpRequest) -> Result<Vec<(String, String)>, Problem> {
    let parsed = web::Query::<Vec<(String, String)>>::from_query(request.query_string());
    parsed.map(web::Query::into_inner).map_err(|error| Problem::new(Code::BadQuery, error.to_string()))
}

pub(crate) fn unknown(name: String) -> Problem {
    Problem::with(Code::BadQuery, name, "there is no such parameter here")
}
