//! What a caller may say about a job beside its payload, from request headers or from the fields of an envelope.
//!
//! Every mistake names the header or field it is in. A `Job-*` header nobody knows is a mistake too: whoever misspells
//! `Job-Delay` should hear of it before the job has run.

use std::time::Duration;

use actix_web::http::header::{HeaderMap, HeaderValue};
use jobs_core::job::{DestinationName, Priority};
use jobs_core::process::duration;
use jobs_core::time::Timestamp;
use jobs_core::trace;
use utoipa::IntoParams;

use crate::problem::{Code, Problem};

/// Longest delay, expiry and distance of a run-at: a year. Beyond it a typing mistake is likelier than a plan.
pub(crate) const MAX_DELAY: Duration = Duration::from_secs(366 * 24 * 3600);
/// Longest idempotency and ordering key, in bytes: a few UUIDs with prefixes, little enough for an index.
pub(crate) const MAX_KEY: usize = 255;
/// Most charged attempts a caller may ask for: with the default delays three and a half days.
pub(crate) const MAX_ATTEMPTS: u32 = 1_000;
/// Longest that a request waits for its job's end. Longer waits count as this one: load balancers cut idle requests at about a minute.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(60);

/// Sent by our own workers; ignored, so that a gateway can be the destination of another.
const IGNORED: [&str; 3] = ["job-attempt", "job-epoch", "job-id"];

/// The headers, for the API's description; [`Options::from_headers`] reads them.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only described")]
pub(crate) struct OptionHeaders {
    /// Repeating the request makes no second job; with another body it is refused.
    #[param(rename = "Idempotency-Key", min_length = 1, max_length = 255)]
    idempotency_key: Option<String>,
    /// Not before then, such as `30s`; or `Job-Run-At`.
    #[param(rename = "Job-Delay", pattern = "^[0-9]{1,4}(ms|s|m|h|d)$")]
    delay: Option<String>,
    #[param(rename = "Job-Run-At")]
    run_at: Option<Timestamp>,
    /// Dead if it is still waiting by then.
    #[param(rename = "Job-Expires-After", pattern = "^[0-9]{1,4}(ms|s|m|h|d)$")]
    expires_after: Option<String>,
    /// 9 goes first.
    #[param(rename = "Job-Priority", minimum = 0, maximum = 9)]
    priority: Option<u8>,
    /// Jobs of one key go one at a time, in the order of acceptance.
    #[param(rename = "Job-Ordering-Key", min_length = 1, max_length = 255)]
    ordering_key: Option<String>,
    /// Charged attempts before it is dead.
    #[param(rename = "Job-Max-Attempts", minimum = 1, maximum = 1000)]
    max_attempts: Option<u32>,
    /// The destination that is told of the job's end, by a job of its own.
    #[param(rename = "Job-Callback", pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    callback: Option<String>,
    /// W3C trace context, passed on.
    traceparent: Option<String>,
    /// `wait=10`: wait up to so many seconds for the outcome.
    #[param(rename = "Prefer", pattern = "^wait=[0-9]$")]
    prefer: Option<String>,
}

/// What was said of one job; the default is what holds where nothing was.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Options {
    pub(crate) start: Start,
    pub(crate) expires_after: Option<Duration>,
    pub(crate) priority: Option<Priority>,
    pub(crate) ordering_key: Option<String>,
    pub(crate) max_attempts: Option<u32>,
    pub(crate) idempotency_key: Option<String>,
    pub(crate) traceparent: Option<String>,
    /// Where the job's end is told; whether there is such a destination is yet to be seen.
    pub(crate) callback: Option<DestinationName>,
    /// How long the answer may wait for the job's end.
    pub(crate) wait: Option<Duration>,
}

/// When a job may run for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Start {
    #[default]
    Now,
    After(Duration),
    At(Timestamp),
}

impl Start {
    pub(crate) fn run_at(self, now: Timestamp) -> Timestamp {
        match self {
            Start::Now => now,
            Start::After(delay) => now.plus(delay),
            Start::At(moment) => moment.max(now),
        }
    }
}

impl Options {
    /// The options among `headers`. `ours`: further `job-*` headers that this route reads itself, in lower case.
    pub(crate) fn from_headers(headers: &HeaderMap, now: Timestamp, ours: &[&str]) -> Result<Self, Problem> {
        let mut options = Options::default();
        for (name, value) in headers {
            match name.as_str() {
                "idempotency-key" => {
                    set(
                        &mut options.idempotency_key,
                        "Idempotency-Key",
                        idempotency_key,
                        text("Idempotency-Key", value)?,
                    )?;
                }
                "prefer" => options.wait = wait_preference(value)?.or(options.wait),
                "traceparent" => options.traceparent = traceparent(value),
                name if name.starts_with("job-") && !IGNORED.contains(&name) && !ours.contains(&name) => {
                    options.read_own(name, value, now)?;
                }
                _ => {}
            }
        }
        Ok(options)
    }

    /// Refuses options in `headers`, where each item of the body has its own; answers what concerns all of them.
    pub(crate) fn of_a_batch(headers: &HeaderMap, now: Timestamp) -> Result<Self, Problem> {
        let is_option =
            |name: &str| name == "idempotency-key" || (name.starts_with("job-") && !IGNORED.contains(&name));
        if let Some((name, _)) = headers.iter().find(|(name, _)| is_option(name.as_str())) {
            return Err(bad(&shown(name.as_str()), "in a batch each item has options of its own, as fields"));
        }
        Options::from_headers(headers, now, &[])
    }

    fn read_own(&mut self, name: &str, value: &HeaderValue, now: Timestamp) -> Result<(), Problem> {
        let shown = shown(name);
        let value = text(&shown, value)?;
        match name {
            "job-delay" => self.start_once(&shown, Start::After(a_duration(&shown, value)?)),
            "job-run-at" => {
                let moment = value.parse().map_err(|error| Problem::with(Code::BadOption, shown.clone(), error))?;
                self.start_once(&shown, at(&shown, moment, now)?)
            }
            "job-expires-after" => set(&mut self.expires_after, &shown, expiry, a_duration(&shown, value)?),
            "job-priority" => set(&mut self.priority, &shown, priority, number(&shown, value)?),
            "job-ordering-key" => set(&mut self.ordering_key, &shown, ordering_key, value),
            "job-max-attempts" => set(&mut self.max_attempts, &shown, max_attempts, number(&shown, value)?),
            "job-callback" => set(&mut self.callback, &shown, callback, value),
            _ => Err(Problem::with(Code::BadOption, shown, "there is no such option")),
        }
    }

    fn start_once(&mut self, shown: &str, start: Start) -> Result<(), Problem> {
        if self.start != Start::Now {
            let detail = "give one of Job-Delay and Job-Run-At, once";
            return Err(Problem::with(Code::BadOption, shown.to_owned(), detail));
        }
        self.start = start;
        Ok(())
    }
}

/// `job-delay` as it is written in documentation: `Job-Delay`.
fn shown(name: &str) -> String {
    let mut at_start = true;
    let capitals = name.chars().map(|letter| {
        let capital = if at_start { letter.to_ascii_uppercase() } else { letter };
        at_start = letter == '-';
        capital
    });
    capitals.collect()
}

fn bad(parameter: &str, detail: impl std::fmt::Display) -> Problem {
    Problem::with(Code::BadOption, parameter.to_owned(), detail)
}

/// Checks a value and puts it in its place, which must be empty: of an option given twice one would be lost.
fn set<V, T>(
    place: &mut Option<T>,
    parameter: &str,
    check: impl Fn(&str, V) -> Result<T, Problem>,
    value: V,
) -> Result<(), Problem> {
    if place.is_some() {
        return Err(bad(parameter, "given twice"));
    }
    *place = Some(check(parameter, value)?);
    Ok(())
}

fn text<'a>(parameter: &str, value: &'a HeaderValue) -> Result<&'a str, Problem> {
    value.to_str().map_err(|_| bad(parameter, "use visible ASCII characters"))
}

fn number(parameter: &str, value: &str) -> Result<u64, Problem> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let number = value.parse().ok().filter(|_| digits);
    number.ok_or_else(|| bad(parameter, format_args!("{value:?} is not a whole number")))
}

fn a_duration(parameter: &str, value: &str) -> Result<Duration, Problem> {
    let parsed = duration::parse(value).map_err(|error| bad(parameter, format_args!("{value:?} is {error}")))?;
    within_a_year(parameter, parsed)
}

pub(crate) fn within_a_year(parameter: &str, value: Duration) -> Result<Duration, Problem> {
    if value <= MAX_DELAY { Ok(value) } else { Err(bad(parameter, "at most 366 days")) }
}

/// A start at `moment`; one in the past means now.
pub(crate) fn at(parameter: &str, moment: Timestamp, now: Timestamp) -> Result<Start, Problem> {
    within_a_year(parameter, moment.since(now)).map(|_| Start::At(moment))
}

pub(crate) fn expiry(parameter: &str, value: Duration) -> Result<Duration, Problem> {
    if value.is_zero() {
        return Err(bad(parameter, "a job that expires at once would never run"));
    }
    within_a_year(parameter, value)
}

/// Refuses an expiry at or before `run_at`, the caller's or the destination's own: the job would never run.
pub(crate) fn check_runs_before_expiry(
    parameter: &'static str,
    run_at: Timestamp,
    expires_after: Option<Duration>,
    now: Timestamp,
) -> Result<(), Problem> {
    match expires_after {
        Some(after) if run_at >= now.plus(after) => {
            let detail = format!("the job would expire after {}, before it may run", duration::show(after));
            Err(bad(parameter, detail))
        }
        Some(_) | None => Ok(()),
    }
}

pub(crate) fn priority(parameter: &str, value: u64) -> Result<Priority, Problem> {
    let level = u8::try_from(value).ok().and_then(Priority::new);
    level.ok_or_else(|| bad(parameter, format_args!("{value} is not a priority from 0 to 9")))
}

pub(crate) fn max_attempts(parameter: &str, value: u64) -> Result<u32, Problem> {
    let count = u32::try_from(value).ok().filter(|count| (1..=MAX_ATTEMPTS).contains(count));
    count.ok_or_else(|| bad(parameter, format_args!("from 1 to {MAX_ATTEMPTS}")))
}

pub(crate) fn idempotency_key(parameter: &str, value: &str) -> Result<String, Problem> {
    let printable = value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if value.is_empty() || value.len() > MAX_KEY || !printable {
        return Err(bad(parameter, format_args!("use 1 to {MAX_KEY} printable ASCII characters")));
    }
    Ok(value.to_owned())
}

pub(crate) fn ordering_key(parameter: &str, value: &str) -> Result<String, Problem> {
    if value.is_empty() || value.len() > MAX_KEY || value.chars().any(char::is_control) {
        return Err(bad(parameter, format_args!("use 1 to {MAX_KEY} bytes without control characters")));
    }
    Ok(value.to_owned())
}

pub(crate) fn callback(parameter: &str, value: &str) -> Result<DestinationName, Problem> {
    value.parse().map_err(|error| bad(parameter, error))
}

/// The `wait` of a `Prefer` header (RFC 7240), in seconds; other preferences are not ours.
fn wait_preference(value: &HeaderValue) -> Result<Option<Duration>, Problem> {
    let preferences = text("Prefer", value)?.split(',');
    let mut wait = None;
    for preference in preferences {
        let (name, value) = preference.split(';').next().unwrap_or_default().split_once('=').unwrap_or_default();
        if name.trim().eq_ignore_ascii_case("wait") {
            let seconds = number("Prefer", value.trim().trim_matches('"'))?;
            wait = Some(Duration::from_secs(seconds).min(MAX_WAIT));
        }
    }
    Ok(wait)
}

/// A W3C trace context; one that is not well formed starts no trace, as its standard says.
fn traceparent(value: &HeaderValue) -> Option<String> {
    value.to_str().ok().filter(|text| trace::is_traceparent(text)).map(str::to_owned)
}

#[cfg(test)]
mod tests;
