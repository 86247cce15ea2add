//! Destinations as `--print-config` shows them: a destinations file with every setting in it, defaults too, secrets as `***`.
//!
//! Where there are no secrets, what is printed is read back as the same destinations.

use std::fmt;

use jobs_core::destination::{Destination, OnUnknown, OrderingOnDead};
use jobs_core::outcome::Rule;
use jobs_core::process::duration;
use jobs_core::retry::{Backoff, Jitter, RetryPolicy};

use super::destinations::Destinations;

const HIDDEN: &str = "***";
/// A header with one of these in its name (in lower case) holds a secret, though it was written into the file as it is.
const TELLING: [&str; 6] = ["authorization", "cookie", "key", "password", "secret", "token"];

impl fmt::Display for Destinations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(default) = &self.default {
            writeln!(f, "default = {}", quoted(default.as_str()))?;
        }
        self.by_name.values().try_for_each(|destination| self.print(f, destination))
    }
}

impl fmt::Debug for Destinations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Destinations({self})")
    }
}

impl Destinations {
    fn print(&self, f: &mut fmt::Formatter<'_>, of: &Destination) -> fmt::Result {
        let policy = &of.policy;
        writeln!(f, "\n[destinations.{}]", quoted(of.name.as_str()))?;
        writeln!(f, "title = {}", quoted(&of.title))?;
        writeln!(f, "url = {}", quoted(&of.url))?;
        writeln!(f, "method = {}", quoted(&of.method))?;
        writeln!(f, "headers = {{ {} }}", self.headers(of))?;
        writeln!(f, "attempt_timeout = {}", quoted(&duration::show(of.attempt_timeout)))?;
        writeln!(f, "max_attempts = {}", policy.max_attempts)?;
        if let Some(expires_after) = policy.expires_after {
            writeln!(f, "expires_after = {}", quoted(&duration::show(expires_after)))?;
        }
        let on_unknown = match policy.on_unknown {
            OnUnknown::Retry => "retry",
            OnUnknown::DeadLetter => "dead_letter",
        };
        writeln!(f, "on_unknown = {}", quoted(on_unknown))?;
        if let Some(window) = policy.idempotency_window {
            writeln!(f, "idempotency_window = {}", quoted(&duration::show(window)))?;
        }
        if let Some(max_lost) = policy.max_lost {
            writeln!(f, "max_lost = {max_lost}")?;
        }
        let ordering_on_dead = match policy.ordering_on_dead {
            OrderingOnDead::Free => "free",
            OrderingOnDead::Block => "block",
        };
        writeln!(f, "ordering_on_dead = {}", quoted(ordering_on_dead))?;
        if let Some(most) = of.max_in_flight {
            writeln!(f, "max_in_flight = {most}")?;
        }
        if let Some(limit) = of.rate_limit {
            writeln!(f, "rate_limit = {{ per_second = {:?}, burst = {} }}", limit.per_second, limit.burst)?;
        }
        writeln!(f, "gate = {{ start_limit = {}, max_limit = {} }}", of.gate.start_limit, of.gate.max_limit)?;
        writeln!(f, "forward_credentials = {}", of.forward_credentials)?;
        writeln!(f, "retry = {{ {} }}", retry(&policy.retry))?;
        if let Some(check) = &of.health_check {
            let (url, method) = (quoted(&check.url), quoted(&check.method));
            writeln!(f, "health_check = {{ url = {url}, method = {method}, expect = {} }}", check.expect)?;
        }
        of.rules
            .iter()
            .try_for_each(|one| write!(f, "\n[[destinations.{}.rules]]\n{}", quoted(of.name.as_str()), rule(one)))
    }

    fn headers(&self, of: &Destination) -> String {
        let shown = of.headers.iter().map(|(name, value)| {
            let lower = name.to_ascii_lowercase();
            let secret = self.secret_headers.contains(&(of.name.clone(), name.clone()))
                || TELLING.iter().any(|word| lower.contains(word));
            format!("{} = {}", quoted(name), quoted(if secret { HIDDEN } else { value }))
        });
        shown.collect::<Vec<_>>().join(", ")
    }
}

fn retry(policy: &RetryPolicy) -> String {
    let jitter = match policy.jitter {
        Jitter::None => "none",
        Jitter::Full => "full",
        Jitter::Equal => "equal",
    };
    let delays = match &policy.backoff {
        Backoff::Exponential { base, factor, max_delay } => {
            let (base, max_delay) = (quoted(&duration::show(*base)), quoted(&duration::show(*max_delay)));
            format!("base = {base}, factor = {factor:?}, max_delay = {max_delay}")
        }
        Backoff::Schedule(delays) => {
            let delays: Vec<String> = delays.iter().map(|delay| quoted(&duration::show(*delay))).collect();
            format!("schedule = [{}]", delays.join(", "))
        }
    };
    format!("{delays}, jitter = {}", quoted(jitter))
}

fn rule(rule: &Rule) -> String {
    let conditions = [
        ("status", rule.status.map(String::from)),
        ("header", rule.header.clone()),
        ("pointer", rule.pointer.clone()),
        ("equals", rule.equals.clone()),
        ("class", Some(rule.class.as_str().to_owned())),
    ];
    let lines = conditions.into_iter().filter_map(|(key, text)| Some(format!("{key} = {}\n", quoted(&text?))));
    lines.collect()
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}
