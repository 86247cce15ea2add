//! `ANY /forward/{destination}/{path…}?{query}`: store and forward for clients that only change their base address.
//!
//! Method, path, query, end-to-end headers and body are kept as they came and replayed with the destination's URL as base. The
//! client's `Authorization` belongs to the destination, so our own key comes in `Job-Client-Key`. A path that a server might
//! resolve to somewhere above that base is refused rather than mended: a mended path is another request.

use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse, web};
use jobs_core::job::Request;

use super::process::accept;
use crate::app::App;
use crate::body;
use crate::headers;
use crate::options::Options;
use crate::problem::{Code, Problem};
use crate::query::percent_decoded;

const PREFIX: &str = "/forward/";
const CLIENT_KEY: &str = "job-client-key";

pub(crate) async fn forward(
    app: web::Data<App>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let key = request.headers().get(CLIENT_KEY).and_then(|value| value.to_str().ok());
    let principal = app.keys.client(key).map_err(|problem| in_our_header(problem, key.is_some()))?;
    app.check_space()?;
    let (name, path) = target(request.uri().path());
    let catalog = app.catalog();
    let listed = catalog.find(name)?;
    check_path(path)?;
    if request.method() == Method::CONNECT {
        return Err(Problem::method_not_allowed("any method but CONNECT"));
    }
    let options = Options::from_headers(request.headers(), app.clock.now().wall, &[CLIENT_KEY])?;
    let kept = headers::forwarded(request.headers(), listed.settings.forward_credentials)?;
    let content_type = body::content_type(&request)?.map(str::to_owned);
    let body = body::read(&request, payload, app.limits.payload).await?;
    let content = Request {
        method: Some(request.method().to_string()),
        path: Some(with_query(path, request.uri().query())),
        content_type,
        headers: kept,
        body,
    };
    app.check_rate(principal, 1)?;
    // These keys are made for the destination: two of them may use the same one for different requests.
    let scope = format!("{principal} -> {}", listed.settings.name);
    accept(&app, &scope, listed, content, options).await
}

/// Says where our key belongs: in `Authorization`, where a client puts it elsewhere, it could travel to the destination.
fn in_our_header(problem: Problem, sent: bool) -> Problem {
    if problem.code() != Code::Unauthenticated {
        return problem;
    }
    let missing = "send a key of this gateway in it; Authorization is for the destination";
    Problem::with(Code::Unauthenticated, "Job-Client-Key", if sent { "this key is not known here" } else { missing })
}

/// The destination's name and the rest of the path, undecoded, with its slash.
fn target(path: &str) -> (&str, &str) {
    let rest = path.strip_prefix(PREFIX).unwrap_or_default();
    rest.split_at(rest.find('/').unwrap_or(rest.len()))
}

fn with_query(path: &str, query: Option<&str>) -> String {
    query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"))
}

/// Refuses dot segments, also encoded or behind a backslash, which some servers take for a slash: also ours, which would send it
/// as one.
fn check_path(path: &str) -> Result<(), Problem> {
    if path.contains('\\') {
        return Err(Problem::new(Code::BadPath, "a backslash would be sent as a slash: write %5C"));
    }
    let decoded = percent_decoded(path.as_bytes());
    let mut segments = decoded.split(|byte| matches!(byte, b'/' | b'\\'));
    if segments.any(|segment| matches!(segment, b"." | b"..")) {
        return Err(Problem::new(Code::BadPath, "a path with . or .. in it could leave the destination's base"));
    }
    if decoded.iter().any(u8::is_ascii_control) {
        return Err(Problem::new(
            Code::BadPath,
            "a path with control characters is read differently by different servers",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_target_is_the_name_and_the_rest_as_it_came() {
        assert_eq!(target("/forward/api2"), ("api2", ""));
        assert_eq!(target("/forward/api2/"), ("api2", "/"));
        assert_eq!(target("/forward/api2/a%20b//c/"), ("api2", "/a%20b//c/"));
        assert_eq!(with_query("/a", Some("x=%20&x")), "/a?x=%20&x");
        assert_eq!(with_query("", None), "");
    }

    #[test]
    fn no_path_can_climb_out_of_the_base() {
        for climbing in
            ["/..", "/a/../b", "/.", "/%2e%2E/x", "/.%2e", "/a\\..\\b", "/%2e.%5cx", "/a%2f..%2fb", "/%00", "/a%0d%0ab"]
        {
            assert!(check_path(climbing).is_err(), "{climbing}");
        }
        assert!(check_path("/a\\b").is_err(), "it would be another path");
        for fine in ["", "/", "/a.b/..c/...", "/%20", "/%", "/%zz", "//a", "/v1/charges", "/a%5Cb"] {
            assert!(check_path(fine).is_ok(), "{fine}");
        }
    }

    proptest! {
        /// The characters are all that the HTTP parser lets through.
        #[test]
        fn a_path_that_is_taken_means_the_same_once_it_is_a_url(path in "/[!\"$-;=@-_a-~]{0,20}", query in "(\\?[!$-;=?-~]{0,12})?") {
            if check_path(&path).is_ok() {
                let sent = url::Url::parse(&format!("http://host/base{path}{query}")).unwrap();
                let sent = sent.as_str().strip_prefix("http://host/base").unwrap();
                prop_assert_eq!(percent_decoded(sent.as_bytes()), percent_decoded(format!("{path}{query}").as_bytes()));
            }
        }

        #[test]
        fn no_path_makes_the_check_panic(path in "[/.%\\\\2efF5cC a-c]{0,30}") {
            let climbs = percent_decoded(path.as_bytes()).split(|byte| matches!(byte, b'/' | b'\\')).any(|part| part == b"..");
            prop_assert!(!climbs || check_path(&path).is_err());
        }
    }
}
