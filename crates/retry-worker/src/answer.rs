//! Reads a destination's answer, within bounds, and says what it means.
//!
//! Kept of the body is [`Response::MAX_BODY`]; a little more is read, and thrown away, where that keeps the connection usable.
//! A status other than 2xx stands even if its body breaks off, unless one of the destination's rules wants to look into the body.
//! A success that breaks off is none: it is `down` and unknown, like no answer at all.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jobs_core::outcome::{Class, Response as Kept, Rule, classify, parse_retry_after};
use jobs_core::process::clock;
use jobs_core::protocol::{WireClass, WireOutcome, WireResponse};
use reqwest::Response;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use tokio::time::{Instant, timeout, timeout_at};

use crate::cause;

/// Read of a body that a rule looks into. JSON that goes on beyond it is classed by its status.
const MAX_INSPECTED: usize = 256 * 1024;

/// Read beyond what is kept, so that the connection can be used again: less than opening a new one would cost.
const MAX_DRAINED: usize = 512 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// What a destination answered.
#[derive(Debug)]
pub(crate) struct Answer {
    class: Class,
    status: u16,
    retry_after: Option<Duration>,
    /// Why the answer is not whole.
    broken: Option<String>,
    response: Option<WireResponse>,
}

impl Answer {
    /// `outcome` with what the answer says filled in.
    pub(crate) fn into_outcome(self, outcome: WireOutcome) -> WireOutcome {
        let retry_after_ms = self.retry_after.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        WireOutcome {
            class: WireClass::Attempted(self.class),
            status: Some(self.status),
            retry_after_ms,
            unknown: self.broken.is_some() && self.class == Class::Down,
            error: self.broken,
            response: self.response,
            ..outcome
        }
    }
}

/// The rest of an answer that is longer than what is kept of it.
pub(crate) struct Unread(Response);

impl Unread {
    /// Reads the rest if it is short and comes fast; else the connection is closed.
    pub(crate) async fn drain(mut self) {
        let rest = async {
            let mut read = 0;
            while let Ok(Some(chunk)) = self.0.chunk().await {
                read += chunk.len();
                if read > MAX_DRAINED {
                    return;
                }
            }
        };
        // Late or not, there is nobody to tell: the answer has been reported.
        timeout(DRAIN_TIME, rest).await.ok();
    }
}

/// Reads the answer's body until `deadline` and classes the answer.
pub(crate) async fn read(mut response: Response, rules: &[Rule], deadline: Instant) -> (Answer, Option<Unread>) {
    let status = response.status().as_u16();
    let headers = std::mem::take(response.headers_mut());
    let inspected = rules.iter().any(|rule| rule.pointer.is_some());
    let (mut body, end) = body(&mut response, if inspected { MAX_INSPECTED } else { Kept::MAX_BODY }, deadline).await;
    let (truncated, broken) = match end {
        BodyEnd::Whole => (body.len() > Kept::MAX_BODY, None),
        BodyEnd::GoesOn => (true, None),
        BodyEnd::Broken(cause) => (true, Some(format!("the answer broke off after {} bytes: {cause}", body.len()))),
    };
    let class = if broken.is_some() && (inspected || (200..300).contains(&status)) {
        Class::Down
    } else {
        classify(rules, status, |name| text(&headers, name), &body)
    };
    let retry_after = text(&headers, RETRY_AFTER.as_str()).and_then(|value| parse_retry_after(value, clock::wall()));
    let unread = (truncated && broken.is_none()).then_some(Unread(response));
    body.truncate(Kept::MAX_BODY);
    let content_type = text(&headers, CONTENT_TYPE.as_str()).map(ToOwned::to_owned);
    let response = (!body.is_empty()).then(|| on_the_wire(content_type, body, truncated));
    (Answer { class, status, retry_after, broken, response }, unread)
}

enum BodyEnd {
    Whole,
    /// There is more than was asked for.
    GoesOn,
    Broken(String),
}

/// Up to `limit` bytes of the body.
async fn body(response: &mut Response, limit: usize, deadline: Instant) -> (Vec<u8>, BodyEnd) {
    let mut body = Vec::new();
    loop {
        match timeout_at(deadline, response.chunk()).await {
            Ok(Ok(Some(chunk))) if body.len() + chunk.len() > limit => {
                body.extend_from_slice(&chunk[..limit - body.len()]);
                return (body, BodyEnd::GoesOn);
            }
            Ok(Ok(Some(chunk))) => body.extend_from_slice(&chunk),
            Ok(Ok(None)) => return (body, BodyEnd::Whole),
            Ok(Err(error)) => return (body, BodyEnd::Broken(cause::describe(&error))),
            Err(_late) => return (body, BodyEnd::Broken("the attempt's time is over".to_owned())),
        }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    std::str::from_utf8(headers.get(name)?.as_bytes()).ok()
}

/// As text where it is text; base64 where it is not, or where its control characters would swell in JSON.
fn on_the_wire(content_type: Option<String>, mut body: Vec<u8>, truncated: bool) -> WireResponse {
    if truncated
        && let Err(error) = std::str::from_utf8(&body)
        && error.error_len().is_none()
    {
        body.truncate(error.valid_up_to()); // cut within a character
    }
    let swells = |byte: &u8| byte.is_ascii_control() && !byte.is_ascii_whitespace();
    let text =
        if body.iter().any(swells) { Err(body) } else { String::from_utf8(body).map_err(|error| error.into_bytes()) };
    match text {
        Ok(text) => WireResponse { content_type, body: Some(text), body_base64: None, truncated },
        Err(bytes) => {
            WireResponse { content_type, body: None, body_base64: Some(BASE64_STANDARD.encode(bytes)), truncated }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cut_within_a_character_stays_text() {
        let body = "ab€".as_bytes()[..4].to_vec();
        assert_eq!(on_the_wire(None, body.clone(), true).body.as_deref(), Some("ab"));
        assert_eq!(on_the_wire(None, body, false).body, None, "a whole body that ends within one is not text");
    }

    #[test]
    fn bytes_and_control_characters_travel_as_base64() {
        assert_eq!(on_the_wire(None, vec![0xff, 0xfe], false).body_base64.as_deref(), Some("//4="));
        assert_eq!(on_the_wire(None, vec![0; 3], false).body_base64.as_deref(), Some("AAAA"));
        assert_eq!(on_the_wire(None, b"a\r\n\tb".to_vec(), false).body.as_deref(), Some("a\r\n\tb"));
    }
}
