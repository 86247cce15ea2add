//! A destination's settings in force, in words, without what may be secret.

use jobs_core::destination::{Destination, OnUnknown, OrderingOnDead};
use jobs_core::process::duration::show;
use jobs_core::retry::{Backoff, Jitter};
use url::Url;

use super::words::count;

/// Each setting by its name in the destinations file.
pub(super) fn settings(settings: &Destination) -> Vec<(&'static str, String)> {
    let policy = &settings.policy;
    let or_none = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
    let headers: Vec<&str> = settings.headers.iter().map(|(name, _)| name.as_str()).collect();
    let health = settings.health_check.as_ref();
    vec![
        ("url", without_query(&settings.url)),
        ("method", settings.method.clone()),
        (
            "headers",
            if headers.is_empty() { "none".to_owned() } else { format!("{} (values not shown)", headers.join(", ")) },
        ),
        ("attempt_timeout", show(settings.attempt_timeout)),
        ("retry", retry(&policy.retry.backoff, policy.retry.jitter)),
        ("max_attempts", count(policy.max_attempts.into())),
        ("expires_after", or_none(policy.expires_after.map(show))),
        (
            "on_unknown",
            match policy.on_unknown {
                OnUnknown::Retry => "retry".to_owned(),
                OnUnknown::DeadLetter => "dead_letter".to_owned(),
            },
        ),
        ("idempotency_window", or_none(policy.idempotency_window.map(show))),
        ("max_lost", or_none(policy.max_lost.map(|most| most.to_string()))),
        (
            "ordering_on_dead",
            match policy.ordering_on_dead {
                OrderingOnDead::Free => "free".to_owned(),
                OrderingOnDead::Block => "block".to_owned(),
            },
        ),
        ("max_in_flight", or_none(settings.max_in_flight.map(|most| most.to_string()))),
        (
            "rate_limit",
            or_none(settings.rate_limit.map(|limit| format!("{} a second, {} at once", limit.per_second, limit.burst))),
        ),
        ("gate", format!("start_limit {}, max_limit {}", settings.gate.start_limit, settings.gate.max_limit)),
        (
            "health_check",
            or_none(
                health
                    .map(|check| format!("{} {}, expecting {}", check.method, without_query(&check.url), check.expect)),
            ),
        ),
        ("rules", if settings.rules.is_empty() { "none".to_owned() } else { count(settings.rules.len() as u64) }),
        ("forward_credentials", settings.forward_credentials.to_string()),
    ]
}

fn retry(backoff: &Backoff, jitter: Jitter) -> String {
    let delays = match backoff {
        Backoff::Exponential { base, factor, max_delay } => {
            format!("{}, then {factor} times as long each time, at most {}", show(*base), show(*max_delay))
        }
        Backoff::Schedule(delays) => {
            let delays: Vec<String> = delays.iter().map(|delay| show(*delay)).collect();
            format!("{}, the last one again and again", delays.join(", "))
        }
    };
    match jitter {
        Jitter::None => delays,
        Jitter::Full => format!("{delays}; spread from 0 to that"),
        Jitter::Equal => format!("{delays}; spread from half of that"),
    }
}

/// Some APIs want their key in the query.
fn without_query(text: &str) -> String {
    match Url::parse(text) {
        Ok(mut url) if url.query().is_some() => {
            url.set_query(None);
            format!("{url}?…")
        }
        Ok(_) | Err(_) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_headers_and_queries_are_not_shown() {
        let mut destination = Destination::new("pay".parse().unwrap(), "https://pay.example/v1?key=s3cret".to_owned());
        destination.headers.push(("Authorization".to_owned(), "Bearer s3cret".to_owned()));
        let shown = settings(&destination);
        assert!(shown.iter().all(|(_, value)| !value.contains("s3cret")), "{shown:?}");
        assert!(shown.contains(&("url", "https://pay.example/v1?…".to_owned())));
        assert!(shown.contains(&("retry", "2s, then 2 times as long each time, at most 5m".to_owned())), "{shown:?}");
    }
}
