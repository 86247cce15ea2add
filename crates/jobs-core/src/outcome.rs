//! What an attempt found: its class, and how an answer is classed.
//!
//! The worker classes (it has the answer in hand) with the rules its lease carries; what a class *means* for the job and its
//! destination is decided by [`crate::charging`] and [`crate::lifecycle`] in the gateway.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The six things an attempt can find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Done.
    Ok,
    /// This job will never be accepted; the destination is well.
    JobFail,
    /// Either this job or the destination's credentials and address are wrong: wait for a verdict.
    Suspect,
    /// The destination asks for less.
    Overload,
    /// The destination cannot be reached, or did not answer.
    Down,
    /// The destination failed in handling it; whose fault that is, the other jobs tell.
    Error,
}

impl Class {
    pub const ALL: [Class; 6] = [Class::Ok, Class::JobFail, Class::Suspect, Class::Overload, Class::Down, Class::Error];

    pub const fn as_str(self) -> &'static str {
        match self {
            Class::Ok => "ok",
            Class::JobFail => "job_fail",
            Class::Suspect => "suspect",
            Class::Overload => "overload",
            Class::Down => "down",
            Class::Error => "error",
        }
    }

    /// Whether the same request may be sent again without anybody changing anything.
    pub const fn is_retryable(self) -> bool {
        match self {
            Class::Overload | Class::Down | Class::Error => true,
            Class::Ok | Class::JobFail | Class::Suspect => false,
        }
    }

    /// The class of an HTTP answer where no rule of the destination says otherwise.
    ///
    /// `retry_after`: the answer carried a `Retry-After`, which makes any answer but a success a request for less.
    pub const fn of_status(status: u16, retry_after: bool) -> Class {
        match status {
            200..=299 => Class::Ok,
            _ if retry_after => Class::Overload,
            408 | 425 | 429 | 503 => Class::Overload,
            401 | 402 | 403 | 404 | 407 => Class::Suspect,
            502 | 504 => Class::Down,
            409 | 423 => Class::Error,
            400..=499 => Class::JobFail,
            _ => Class::Error,
        }
    }
}

impl std::str::FromStr for Class {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Class::ALL.into_iter().find(|class| class.as_str() == text).ok_or(())
    }
}

/// What a worker reports of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub class: Class,
    /// HTTP status; `None` where there was no answer.
    pub status: Option<u16>,
    /// From the first byte sent to the last byte of the answer read.
    pub latency: Duration,
    /// As the destination asked, uncapped.
    pub retry_after: Option<Duration>,
    /// What went wrong, for people.
    pub error: Option<String>,
    /// The request was written and no answer came: the destination may have done it.
    pub unknown: bool,
    pub response: Option<Response>,
}

impl Outcome {
    /// An outcome of `class` with nothing else known of it.
    pub fn of(class: Class) -> Self {
        Outcome {
            class,
            status: None,
            latency: Duration::ZERO,
            retry_after: None,
            error: None,
            unknown: false,
            response: None,
        }
    }

    /// What went wrong or was answered; `None` where neither is known.
    pub fn in_words(&self) -> Option<String> {
        self.error.clone().or_else(|| self.status.map(|status| format!("answered {status}")))
    }
}

/// What the destination answered, as far as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Response {
    pub content_type: Option<String>,
    pub body: Bytes,
    /// The answer went on beyond what is kept.
    pub truncated: bool,
}

impl Response {
    /// Kept of an answer: enough for an error page or a receipt, little enough to keep for every job.
    pub const MAX_BODY: usize = 64 * 1024;
    /// Kept of it in the attempt log, as text.
    pub const MAX_EXCERPT: usize = 512;

    /// The beginning of the body as text, at most [`Response::MAX_EXCERPT`] bytes; `None` if it is empty.
    pub fn excerpt(&self) -> Option<String> {
        if self.body.is_empty() {
            return None;
        }
        let head = &self.body[..self.body.len().min(Self::MAX_EXCERPT)];
        let mut text = String::from_utf8_lossy(head).into_owned();
        while text.len() > Self::MAX_EXCERPT {
            text.pop();
        }
        Some(text)
    }
}

/// One of a destination's own rules; the first that matches an answer gives its class.
///
/// All conditions that are set must hold. They travel in the lease, so their JSON form is part of the protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// `"404"`, `"4xx"` or `"500-599"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<StatusRange>,
    /// Name of a header that must be present, in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// JSON pointer (RFC 6901) into the answer that must lead somewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// What that header or the value at that pointer must be; without it, any value will do. A string is compared as
    /// it is, any other JSON value by its JSON text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equals: Option<String>,
    pub class: Class,
}

impl Rule {
    /// Whether this rule speaks of the answer. `header` looks a header up by name in any case.
    fn matches<'a>(
        &self,
        status: u16,
        header: &impl Fn(&str) -> Option<&'a str>,
        body: Option<&serde_json::Value>,
    ) -> bool {
        let wanted = |found: &str| self.equals.as_deref().is_none_or(|equals| equals == found);
        let status_fits = self.status.is_none_or(|range| range.contains(status));
        let header_fits = self.header.as_deref().is_none_or(|name| header(name).is_some_and(wanted));
        let pointer_fits =
            self.pointer.as_deref().is_none_or(|pointer| match body.and_then(|body| body.pointer(pointer)) {
                Some(serde_json::Value::String(text)) => wanted(text),
                Some(value) => wanted(&value.to_string()),
                None => false,
            });
        status_fits && header_fits && pointer_fits
    }
}

/// The class of an answer: by the first of `rules` that matches, else by its status.
pub fn classify<'a>(rules: &[Rule], status: u16, header: impl Fn(&str) -> Option<&'a str>, body: &[u8]) -> Class {
    let json = rules.iter().any(|rule| rule.pointer.is_some()).then(|| serde_json::from_slice(body).ok()).flatten();
    match rules.iter().find(|rule| rule.matches(status, &header, json.as_ref())) {
        Some(rule) => rule.class,
        None => Class::of_status(status, header("retry-after").is_some()),
    }
}

/// Statuses from the first to the second, both included. Written `404`, `4xx` or `500-599`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StatusRange(u16, u16);

impl StatusRange {
    pub const fn contains(self, status: u16) -> bool {
        self.0 <= status && status <= self.1
    }
}

/// Why a text is not a range of statuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a status: write 404, 4xx or 500-599")]
pub struct NotAStatusRange(pub String);

impl TryFrom<String> for StatusRange {
    type Error = NotAStatusRange;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let number = |part: &str| part.parse().ok().filter(|status| (100..=599).contains(status));
        let range = match (text.split_once('-'), text.strip_suffix("xx")) {
            (Some((first, last)), _) => number(first).zip(number(last)),
            (None, Some(hundred)) => number(&format!("{hundred}00")).map(|first: u16| (first, first + 99)),
            (None, None) => number(&text).map(|status| (status, status)),
        };
        match range {
            Some((first, last)) if first <= last => Ok(StatusRange(first, last)),
            _ => Err(NotAStatusRange(text)),
        }
    }
}

impl From<StatusRange> for String {
    fn from(range: StatusRange) -> String {
        match range {
            StatusRange(first, last) if first == last => first.to_string(),
            StatusRange(first, last) => format!("{first}-{last}"),
        }
    }
}

/// Reads a `Retry-After` value: whole seconds, or an HTTP date counted from `now`. `None` if it is neither.
pub fn parse_retry_after(value: &str, now: crate::time::Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    let since_epoch = date.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(since_epoch.saturating_sub(Duration::from_millis(now.as_millis().unsigned_abs())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    #[test]
    fn every_status_has_the_class_the_table_gives_it() {
        let table: [(Class, &[u16]); 6] = [
            (Class::Ok, &[200, 201, 202, 204, 299]),
            (
                Class::JobFail,
                &[400, 405, 406, 410, 411, 413, 414, 415, 416, 417, 418, 421, 422, 424, 426, 428, 431, 451, 499],
            ),
            (Class::Suspect, &[401, 402, 403, 404, 407]),
            (Class::Overload, &[408, 425, 429, 503]),
            (Class::Down, &[502, 504]),
            (Class::Error, &[409, 423, 500, 501, 505, 301, 302, 304, 599]),
        ];
        for (class, statuses) in table {
            for status in statuses {
                assert_eq!(Class::of_status(*status, false), class, "{status}");
            }
        }
    }

    #[test]
    fn retry_after_makes_any_answer_but_a_success_an_overload() {
        assert_eq!(Class::of_status(500, true), Class::Overload);
        assert_eq!(Class::of_status(404, true), Class::Overload);
        assert_eq!(Class::of_status(200, true), Class::Ok);
    }

    #[test]
    fn the_first_matching_rule_overrides_the_status() {
        let rules: Vec<Rule> = serde_json::from_str(
            r#"[{"pointer":"/error/code","equals":"busy","class":"overload"},{"pointer":"/error","class":"job_fail"},{"status":"404","class":"ok"},{"status":"5xx","header":"X-Poison","class":"job_fail"}]"#,
        )
        .unwrap();
        let none = |_: &str| None;
        assert_eq!(classify(&rules, 200, none, br#"{"error":{"code":"busy"}}"#), Class::Overload);
        assert_eq!(classify(&rules, 200, none, br#"{"error":{"code":1}}"#), Class::JobFail);
        assert_eq!(classify(&rules, 200, none, b"not json"), Class::Ok);
        assert_eq!(classify(&rules, 404, none, b""), Class::Ok);
        assert_eq!(classify(&rules, 500, none, b""), Class::Error);
        assert_eq!(
            classify(&rules, 500, |name| name.eq_ignore_ascii_case("x-poison").then_some("1"), b""),
            Class::JobFail
        );
    }

    #[test]
    fn a_status_range_reads_its_three_forms_and_nothing_else() {
        for good in ["404", "4xx", "500-599"] {
            assert!(StatusRange::try_from(good.to_owned()).is_ok(), "{good}");
        }
        for bad in ["", "xx", "6xx", "40", "4x", "599-500", "a-b", "1000"] {
            assert!(StatusRange::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Timestamp::from_millis(784_111_777_000);
        assert_eq!(parse_retry_after("120", now), Some(Duration::from_secs(120)));
        assert_eq!(parse_retry_after("Sun, 06 Nov 1994 08:50:37 GMT", now), Some(Duration::from_secs(60)));
        assert_eq!(parse_retry_after("Sun, 06 Nov 1994 08:40:37 GMT", now), Some(Duration::ZERO));
        assert_eq!(parse_retry_after("soon", now), None);
        assert_eq!(parse_retry_after("-1", now), None);
        assert_eq!(parse_retry_after("", now), None);
    }

    #[test]
    fn an_excerpt_is_text_of_bounded_length() {
        let body = Bytes::from(vec![0xff; 10_000]);
        let excerpt = Response { body, ..Response::default() }.excerpt().unwrap();
        assert!(excerpt.len() <= Response::MAX_EXCERPT);
        assert_eq!(Response::default().excerpt(), None);
    }
}
