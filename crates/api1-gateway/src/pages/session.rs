//! Signing in and out. The key goes into a cookie that no script can read and no other site's page can send.

use actix_web::http::header::{HeaderValue, SET_COOKIE};
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::answer::{Refusal, page, see_other};
use super::form::Form;
use super::viewer::COOKIE;
use super::{assets, form};
use crate::app::App;
use crate::query;

/// The page that asks for a key.
#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignIn {
    version: &'static str,
    next: String,
    /// Why the key that was given is none.
    refused: Option<&'static str>,
}

pub(super) async fn ask(request: HttpRequest) -> Result<HttpResponse, Refusal> {
    let next = query::pairs(&request)?.into_iter().find(|(name, _)| name == "next").map(|(_, value)| value);
    page(&SignIn { version: &assets::VERSION, next: local(next.as_deref()).to_owned(), refused: None })
}

pub(super) async fn sign_in(
    app: web::Data<App>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Refusal> {
    let form = Form::read(&request, payload).await?;
    let (key, next) = (form.get("key").unwrap_or_default(), local(form.raw("next")));
    if app.keys.client(Some(key)).is_err() {
        let refused = Some("This key is not one of an operator or client of this gateway.");
        return page(&SignIn { version: &assets::VERSION, next: next.to_owned(), refused });
    }
    Ok(with_cookie(&request, see_other(next), &URL_SAFE_NO_PAD.encode(key), ""))
}

pub(super) async fn sign_out(request: HttpRequest) -> Result<HttpResponse, Refusal> {
    form::check_origin(&request)?;
    Ok(with_cookie(&request, see_other("/sign-in"), "", "; Max-Age=0"))
}

/// `value`: of characters that need no quotes. Without an `age` it ends with the browser.
fn with_cookie(request: &HttpRequest, mut answer: HttpResponse, value: &str, age: &str) -> HttpResponse {
    let secure = if request.connection_info().scheme() == "https" { "; Secure" } else { "" };
    let cookie = format!("{COOKIE}={value}; Path=/; HttpOnly; SameSite=Strict{secure}{age}");
    let cookie = HeaderValue::try_from(cookie).expect("base64 and words of ours are fit for a header");
    answer.headers_mut().insert(SET_COOKIE, cookie);
    answer
}

/// A path of this gateway, and nothing that a browser would read as another host's.
fn local(next: Option<&str>) -> &str {
    let is_path = |path: &&str| {
        let plain = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
        plain && path.starts_with('/') && !path.starts_with("//")
    };
    next.filter(is_path).unwrap_or("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_sent_to_another_host_after_signing_in() {
        assert_eq!(local(Some("/jobs?state=dead&q=a%20b")), "/jobs?state=dead&q=a%20b");
        for bad in ["//evil.example", "https://evil.example", "/\\evil.example", "/a\r\nb", "jobs", "", "/\t/evil"] {
            assert_eq!(local(Some(bad)), "/", "{bad:?}");
        }
        assert_eq!(local(None), "/");
    }
}
