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

const PREFIX: &str = "/forward/";
const CLIENT_KEY: &str = "job-client-key";

pub(crate) async fn forward(
    app: web::Data<App>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let key = request.headers().get(CLIENT_KEY).and_then(|value| value.to_str().ok());
    let principal = app.keys.client(key)?;
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

/// The destination's name and the rest of the path, undecoded, with its slash.
fn target(path: &str) -> (&str, &str) {
    let rest = path.strip_prefix(PREFIX).unwrap_or_default();
    rest.split_at(rest.find('/').unwrap_or(rest.len()))
}

fn with_query(path: &str, query: Option<&str>) -> String {
    query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"))
}

/// Refuses dot segments, also encoded or behind a backslash, which some servers take for a slash.
fn check_path(path: &str) -> Result<(), Problem> {
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

fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let hex = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match (byte, hex(text.get(at + 1)), hex(text.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                decoded.extend(u8::try_from(high * 16 + low));
                at += 3;
            }
            _ => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    decoded
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
        for fine in ["", "/", "/a.b/..c/...", "/%20", "/%", "/%zz", "//a", "/v1/charges"] {
            assert!(check_path(fine).is_ok(), "{fine}");
        }
    }

    proptest! {
        #[test]
        fn no_path_makes_the_check_panic(path in "[/.%\\\\2efF5cC a-c]{0,30}") {
            let climbs = percent_decoded(path.as_bytes()).split(|byte| matches!(byte, b'/' | b'\\')).any(|part| part == b"..");
            prop_assert!(!climbs || check_path(&path).is_err());
        }
    }
}
