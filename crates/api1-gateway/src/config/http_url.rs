//! The URLs an operator may give: one check for flags, the destinations file and health checks.
//!
//! It is stricter than the URL standard, which repairs what it can (`http:host`, `http:///host`, line breaks in the middle): a
//! URL that calls are sent to should be the one that was written. Refusals never repeat the URL, since it may hold a password.

use url::{ParseError, Url};

/// Longest URL, in bytes: what RFC 9110 asks every server to accept as a request line.
pub const MAX_URL: usize = 8_000;

/// Why a text is not the URL of a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    #[error("the URL must be absolute and begin with http:// or https://")]
    Scheme,
    #[error("the URL has no host: write http://HOST/PATH")]
    Host,
    #[error("the URL has a user or password in it: send an Authorization header instead")]
    UserInfo,
    #[error("the URL has a fragment (#…), which is never sent: remove it")]
    Fragment,
    #[error("the URL has a blank, control character or backslash in it: percent-encode it")]
    Character,
    #[error("the URL is longer than {MAX_URL} bytes")]
    Length,
    #[error("not a URL: {0}")]
    Malformed(ParseError),
}

/// Reads an absolute `http` or `https` URL without user info and fragment, and writes it as it will be sent: host in lower
/// case, default port left out, at least the path `/`, percent-encoded. Its own result is read as itself.
///
/// # Errors
/// [`BadUrl`], which says what to write instead.
pub fn parse(text: &str) -> Result<String, BadUrl> {
    if text.len() > MAX_URL {
        return Err(BadUrl::Length);
    }
    let unfit = |c: char| c.is_whitespace() || c.is_control() || c == '\\';
    if text.contains(unfit) {
        return Err(BadUrl::Character);
    }
    let (scheme, rest) = text.split_once("://").ok_or(BadUrl::Scheme)?;
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return Err(BadUrl::Scheme);
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(BadUrl::UserInfo);
    }
    if authority.is_empty() || authority.starts_with(':') {
        return Err(BadUrl::Host);
    }
    let url = Url::parse(text).map_err(BadUrl::Malformed)?;
    if url.fragment().is_some() {
        return Err(BadUrl::Fragment);
    }
    if url.port() == Some(0) {
        return Err(BadUrl::Malformed(ParseError::InvalidPort));
    }
    Ok(url.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_url_is_written_as_it_will_be_sent() {
        for (text, sent) in [
            ("http://127.0.0.1:8082/api2/simulate", "http://127.0.0.1:8082/api2/simulate"),
            ("HTTPS://Api.Example:443?q=a@b", "https://api.example/?q=a@b"),
            ("http://[::1]:8080/a%20b", "http://[::1]:8080/a%20b"),
            ("http://host/ä", "http://host/%C3%A4"),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(sent), "{text}");
        }
    }

    #[test]
    fn what_could_not_be_called_as_written_is_refused_with_its_reason() {
        for (text, reason) in [
            ("", BadUrl::Scheme),
            ("/api2", BadUrl::Scheme),
            ("localhost:8082/api2", BadUrl::Scheme),
            ("ftp://host/", BadUrl::Scheme),
            ("http:host", BadUrl::Scheme),
            ("http://", BadUrl::Host),
            ("http:///path", BadUrl::Host),
            ("http://:80/", BadUrl::Host),
            ("http://?q", BadUrl::Host),
            ("http://user:secret@host/", BadUrl::UserInfo),
            ("http://@host/", BadUrl::UserInfo),
            ("http://host/#part", BadUrl::Fragment),
            ("http://host/#", BadUrl::Fragment),
            ("http://host/a b", BadUrl::Character),
            ("http://host\r\n/a", BadUrl::Character),
            ("http:\\\\host/", BadUrl::Character),
            ("http://host:0/", BadUrl::Malformed(ParseError::InvalidPort)),
            ("http://host:65536/", BadUrl::Malformed(ParseError::InvalidPort)),
            ("http://host:port/", BadUrl::Malformed(ParseError::InvalidPort)),
            ("http://ho<st/", BadUrl::Malformed(ParseError::IdnaError)),
            ("http://[::1/", BadUrl::Malformed(ParseError::InvalidIpv6Address)),
        ] {
            assert_eq!(parse(text), Err(reason), "{text:?}");
        }
        assert_eq!(parse(&format!("http://h/{}", "x".repeat(MAX_URL))), Err(BadUrl::Length));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_what_is_read_is_read_again_as_itself(text in "(https?://)?[ -~äß\\n]{0,40}") {
            if let Ok(url) = parse(&text) {
                prop_assert_eq!(parse(&url), Ok(url));
            }
        }
    }
}
