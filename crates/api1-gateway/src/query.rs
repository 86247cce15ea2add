//! Query parameters. An unknown one is refused: a misspelt filter would quietly answer everything.

use actix_web::{HttpRequest, web};

use crate::problem::{Code, Problem};

/// The decoded parameters, in order.
pub(crate) fn pairs(request: &HttpRequest) -> Result<Vec<(String, String)>, Problem> {
    let parsed = web::Query::<Vec<(String, String)>>::from_query(request.query_string());
    parsed.map(web::Query::into_inner).map_err(|error| Problem::new(Code::BadQuery, error.to_string()))
}

/// A page's length: from 1 to `most`.
pub(crate) fn limit(value: &str, most: u32) -> Result<u32, Problem> {
    let count = value.parse().ok().filter(|count| (1..=most).contains(count));
    count.ok_or_else(|| Problem::with(Code::BadQuery, "limit", format_args!("{value:?} is not from 1 to {most}")))
}

pub(crate) fn unknown(name: String) -> Problem {
    Problem::with(Code::BadQuery, name, "there is no such parameter here")
}
