//! What an operator says about a destination: where it is, how to call it, and how much to ask of it.
//!
//! These are checked values; reading them from flags or a file, with errors for people, is the gateway's work.

use std::fmt;
use std::time::Duration;

use crate::gate::GateSettings;
use crate::job::DestinationName;
use crate::outcome::{Class, Rule};
use crate::retry::RetryPolicy;

/// The settings of one destination.
#[derive(Clone, PartialEq)]
pub struct Destination {
    pub name: DestinationName,
    /// For people: "API 2".
    pub title: String,
    /// Absolute, `http` or `https`, without user info and fragment.
    pub url: String,
    pub method: String,
    /// Sent with every attempt, after the job's own.
    pub headers: Vec<(String, String)>,
    /// From connecting to the last byte of the answer.
    pub attempt_timeout: Duration,
    pub policy: Policy,
    /// Most leases at a time, whatever the gate would allow; `None`: no bound of its own.
    pub max_in_flight: Option<u32>,
    pub rate_limit: Option<RateLimit>,
    pub gate: GateSettings,
    pub health_check: Option<HealthCheck>,
    pub rules: Vec<Rule>,
    /// Whether a forwarded client's `Authorization` and `Cookie` travel.
    pub forward_credentials: bool,
}

impl Destination {
    /// Long enough for a slow payment; short enough that a hanging server is noticed.
    pub const DEFAULT_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);

    /// A destination with every setting at its default. `title`: `api2` becomes "API 2".
    pub fn new(name: DestinationName, url: String) -> Self {
        Destination {
            title: default_title(name.as_str()),
            name,
            url,
            method: "POST".to_owned(),
            headers: Vec::new(),
            attempt_timeout: Self::DEFAULT_ATTEMPT_TIMEOUT,
            policy: Policy::default(),
            max_in_flight: None,
            rate_limit: None,
            gate: GateSettings::default(),
            health_check: None,
            rules: Vec::new(),
            forward_credentials: false,
        }
    }
}

/// Shows the names of its headers and not their values, which are secrets more often than not.
impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Destination")
            .field("name", &self.name)
            .field("title", &self.title)
            .field("url", &self.url)
            .field("method", &self.method)
            .field("headers", &headers)
            .field("attempt_timeout", &self.attempt_timeout)
            .field("policy", &self.policy)
            .field("max_in_flight", &self.max_in_flight)
            .field("rate_limit", &self.rate_limit)
            .field("gate", &self.gate)
            .field("health_check", &self.health_check)
            .field("rules", &self.rules)
            .field("forward_credentials", &self.forward_credentials)
            .finish()
    }
}

/// `api2` is "API 2", as the original design calls it; any other name is its own title.
fn default_title(name: &str) -> String {
    match name.strip_prefix("api") {
        Some(number) if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("API {number}")
        }
        _ => name.to_owned(),
    }
}

/// Most calls started: `per_second` on average, `burst` at once. Exact across workers, since the gateway grants them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateLimit {
    pub per_second: f64,
    pub burst: u32,
}

/// A cheap call that tells whether the destination is back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    pub url: String,
    pub method: String,
    /// The status that means healthy.
    pub expect: u16,
}

/// What is to become of a destination's jobs when attempts fail.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    pub retry: RetryPolicy,
    /// Charged attempts after which a job is dead, where the job does not say.
    pub max_attempts: u32,
    /// Where the job does not say.
    pub expires_after: Option<Duration>,
    pub on_unknown: OnUnknown,
    /// How long the destination remembers an idempotency key: after an unknown outcome a job is not sent again later than
    /// this after the attempt began.
    pub idempotency_window: Option<Duration>,
    /// Lapsed leases after which a job is dead; `None`: it is tried for ever.
    pub max_lost: Option<u32>,
    pub ordering_on_dead: OrderingOnDead,
}

impl Policy {
    /// With the default delays, charged failures are spread over about an hour and a half.
    pub const DEFAULT_MAX_ATTEMPTS: u32 = 25;
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            retry: RetryPolicy::default(),
            max_attempts: Self::DEFAULT_MAX_ATTEMPTS,
            expires_after: None,
            on_unknown: OnUnknown::Retry,
            idempotency_window: None,
            max_lost: None,
            ordering_on_dead: OrderingOnDead::Free,
        }
    }
}

/// What to do when the destination may have done the work and nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnUnknown {
    Retry,
    DeadLetter,
}

/// What a dead head does to the jobs behind it in its ordering key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderingOnDead {
    Free,
    Block,
}

/// The classes a rule may give, for the message that refuses another word.
pub fn class_names() -> String {
    Class::ALL.map(Class::as_str).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_numbered_api_gets_the_title_of_the_original_design() {
        assert_eq!(default_title("api2"), "API 2");
        assert_eq!(default_title("apiary"), "apiary");
        assert_eq!(default_title("api"), "api");
        assert_eq!(default_title("payments"), "payments");
    }

    #[test]
    fn a_destination_is_shown_without_the_values_of_its_headers() {
        let mut settings = Destination::new("api2".parse().unwrap(), "http://127.0.0.1/".to_owned());
        settings.headers.push(("Authorization".to_owned(), "Bearer of-a-secret".to_owned()));
        let shown = format!("{settings:?}");
        assert!(shown.contains("Authorization") && !shown.contains("of-a-secret"), "{shown}");
    }
}
