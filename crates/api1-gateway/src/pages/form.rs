//! What a page's form sends. It must come from a page of ours: with a cookie, or on a gateway without keys, any page on the web
//! could otherwise send it through an operator's browser.

use actix_web::http::header::{HOST, ORIGIN};
use actix_web::{HttpRequest, web};
use std::time::Duration;

use super::answer::Refusal;
use crate::body::{self, Bounds};
use crate::problem::{Code, Problem};

/// A payload of a mebibyte, edited, with every byte escaped, and the fields beside it.
const BOUNDS: Bounds = Bounds { max_bytes: 3 * 1024 * 1024 + 64 * 1024, deadline: Duration::from_secs(30) };

/// The fields of a form, in order.
#[derive(Debug)]
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    pub(super) async fn read(request: &HttpRequest, payload: web::Payload) -> Result<Form, Refusal> {
        check_origin(request)?;
        let body = body::read(request, payload, BOUNDS).await?;
        let bad = |_| Problem::new(Code::BadMessage, "this is not what a form sends");
        let text = std::str::from_utf8(&body).map_err(|_| Problem::new(Code::BadMessage, "not UTF-8"))?;
        let pairs = web::Query::<Vec<(String, String)>>::from_query(text).map_err(bad)?;
        Ok(Form(pairs.into_inner()))
    }

    /// All fields.
    pub(super) fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// A field without the blanks around it; `None` if it is missing or empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.raw(name).map(str::trim).filter(|value| !value.is_empty())
    }

    /// A field as it was sent.
    pub(super) fn raw(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Browsers say where a form comes from: in `Sec-Fetch-Site` over TLS and on the own machine, in `Origin` always.
pub(super) fn check_origin(request: &HttpRequest) -> Result<(), Problem> {
    let header = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap_or_default());
    let ours = match (header("sec-fetch-site"), header(ORIGIN.as_str())) {
        (Some(site), _) => site == "same-origin",
        (None, Some(origin)) => {
            let host = header(HOST.as_str()).unwrap_or_default();
            origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host))
        }
        // No browser: let it use the API.
        (None, None) => false,
    };
    if ours { Ok(()) } else { Err(Problem::new(Code::CrossSite, "open the dashboard and do it from there")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn is_ours(headers: &[(&'static str, &str)]) -> bool {
        let request = TestRequest::post().insert_header((HOST, "ops.example:8080"));
        let request = headers.iter().fold(request, |request, header| request.insert_header(*header));
        check_origin(&request.to_http_request()).is_ok()
    }

    #[test]
    fn only_what_says_that_it_comes_from_here_is_ours() {
        assert!(is_ours(&[("sec-fetch-site", "same-origin")]));
        assert!(is_ours(&[("origin", "http://ops.example:8080")]));
        assert!(is_ours(&[("origin", "https://OPS.example:8080")]), "a proxy may speak TLS for us");
        for site in ["cross-site", "same-site", "none", ""] {
            assert!(!is_ours(&[("sec-fetch-site", site), ("origin", "http://ops.example:8080")]), "{site}");
        }
        for origin in ["null", "http://evil.example", "http://ops.example", "http://ops.example:8080.evil.example", ""]
        {
            assert!(!is_ours(&[("origin", origin)]), "{origin}");
        }
        assert!(!is_ours(&[]));
    }
}
