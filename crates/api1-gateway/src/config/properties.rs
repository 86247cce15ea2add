//! Properties of the destinations file: whatever is printed is read back, and no text makes the reader fall over.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jobs_core::destination::{Destination, HealthCheck, OnUnknown, OrderingOnDead, RateLimit};
use jobs_core::gate::GateSettings;
use jobs_core::outcome::{Class, Rule, StatusRange};
use jobs_core::retry::{Backoff, Jitter, RetryPolicy};
use proptest::prelude::*;

use super::destinations::Destinations;
use super::file::{self, Contents, Outside};
use super::mistakes::{Findings, MAX_MISTAKES, Mistake, Place};

fn read(text: &str) -> (Contents, Vec<Mistake>) {
    let outside = Outside { folder: Path::new("/nowhere"), environment: &|_| None, flags: &BTreeSet::new() };
    let mut findings = Findings::default();
    let contents = file::read(text, &outside, &mut findings);
    (contents, findings.into_mistakes(Path::new("f"), text))
}

fn durations(longest_ms: u64) -> impl Strategy<Value = Duration> {
    (1..=longest_ms).prop_map(Duration::from_millis)
}

fn backoffs() -> impl Strategy<Value = Backoff> {
    const HOUR: u64 = 3_600_000;
    let formula = (durations(HOUR), 1.0..1000.0_f64, durations(HOUR))
        .prop_map(|(base, factor, more)| Backoff::Exponential { base, factor, max_delay: base + more });
    prop_oneof![formula, prop::collection::vec(durations(HOUR), 1..9).prop_map(Backoff::Schedule)]
}

fn rules() -> impl Strategy<Value = Rule> {
    let status = (100u16..=599, 0u16..100).prop_map(|(first, more)| format!("{first}-{}", (first + more).min(599)));
    let status = status.prop_map(|text| StatusRange::try_from(text).unwrap());
    let pointer = "(/([a-zäö\"' ]|~[01]){0,4}){0,3}";
    let class = prop::sample::select(Class::ALL.to_vec());
    (status, prop::option::of("[A-Za-z-]{1,9}"), pointer, prop::option::of("\\PC{0,9}"), class).prop_map(
        |(status, header, pointer, equals, class)| Rule {
            status: Some(status),
            header,
            pointer: Some(pointer),
            equals,
            class,
        },
    )
}

prop_compose! {
    fn destinations_named(name: &'static str)(
        title in "[a-zA-Z\"'\\\\äß#]{1,20}",
        path in "[a-z]{0,8}(\\?[a-z]=[0-9])?",
        headers in prop::collection::btree_map("X-[A-D]{1,6}", "[ -~]{0,12}", 0..5),
        timeout in durations(3_600_000),
        (max_attempts, max_in_flight, max_lost) in (1u32..=1_000_000, prop::option::of(1u32..=1_000_000), prop::option::of(1u32..=9)),
        (expires_after, idempotency_window) in (prop::option::of(durations(1 << 38)), prop::option::of(durations(1 << 38))),
        (unknown, dead, forward_credentials, jitter) in (any::<bool>(), any::<bool>(), any::<bool>(), 0usize..3),
        rate_limit in prop::option::of((0.0001..1e6_f64, 1u32..=1_000_000)),
        (start_limit, more) in (1u32..=1_000, 0u32..=1_000),
        backoff in backoffs(),
        health in prop::option::of((100u16..=599, prop::sample::select(vec!["GET", "HEAD", "POST"]))),
        rules in prop::collection::vec(rules(), 0..4),
    ) -> Destination {
        let mut it = Destination::new(name.parse().unwrap(), format!("http://host/{path}"));
        it.title = title;
        it.headers = headers.into_iter().collect();
        it.attempt_timeout = timeout;
        it.policy.retry = RetryPolicy { backoff, jitter: [Jitter::None, Jitter::Full, Jitter::Equal][jitter] };
        it.policy.max_attempts = max_attempts;
        it.policy.expires_after = expires_after;
        it.policy.on_unknown = if unknown { OnUnknown::Retry } else { OnUnknown::DeadLetter };
        it.policy.idempotency_window = idempotency_window;
        it.policy.max_lost = max_lost;
        it.policy.ordering_on_dead = if dead { OrderingOnDead::Free } else { OrderingOnDead::Block };
        it.max_in_flight = max_in_flight;
        it.rate_limit = rate_limit.map(|(per_second, burst)| RateLimit { per_second, burst });
        it.gate = GateSettings { start_limit, max_limit: start_limit + more };
        it.health_check = health.map(|(expect, method)| HealthCheck { url: "http://host/health".to_owned(), method: method.to_owned(), expect });
        it.rules = rules;
        it.forward_credentials = forward_credentials;
        it
    }
}

/// A file with most of what a file can have, to be damaged.
const SAMPLE: &str = r#"default = 'a'
[destinations.a]
url = 'https://h/ä'
title = "A"
headers = { X-A = 'a', X-B = { env = 'B' }, X-C = { file = 'c' } }
attempt_timeout = '30s'
max_attempts = 25
rate_limit = { per_second = 1.5, burst = 20 }
retry = { base = '2s', factor = 2.0, max_delay = '300s', jitter = 'none' }
health_check.url = 'http://h'
[[destinations.a.rules]]
status = '404'
class = 'overload'
[destinations.b]
url = 'http://b'
retry.schedule = ['5s', '5m']
"#;

/// Pieces of TOML, of which any row may be tried.
const PIECES: [&str; 25] = [
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    " = ",
    ".",
    ",",
    "\n",
    "\"",
    "'",
    "'''",
    "#",
    "destinations",
    "a",
    "rules",
    "retry",
    "headers",
    "url",
    "0x",
    "-1_000",
    "1e999",
    "2026-11-22",
    "\u{feff}",
];

/// Reads `text`; every mistake must stand on one line, and at a place that is in the text.
fn assert_sound(text: &str) -> Result<(), TestCaseError> {
    let (_, mistakes) = read(text);
    prop_assert!(mistakes.len() <= MAX_MISTAKES + 1);
    for mistake in mistakes {
        prop_assert!(!mistake.to_string().contains('\n'), "{mistake:?} in {text:?}");
        if let Place::Line { line, column, .. } = mistake.place {
            let found = text.split('\n').nth(line - 1);
            let fits = found.is_some_and(|found| column <= found.chars().count() + 1);
            prop_assert!(fits, "{line}:{column} in {text:?}");
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn what_is_printed_is_read_back(a in destinations_named("a"), b in destinations_named("team.b-1"), default: bool) {
        let by_name: BTreeMap<_, _> = [a, b].into_iter().map(|it| (it.name.clone(), Arc::new(it))).collect();
        let default = default.then(|| "a".parse().unwrap());
        let destinations = Destinations { by_name, default, secret_headers: BTreeSet::new() };
        let (contents, mistakes) = read(&destinations.to_string());
        prop_assert!(mistakes.is_empty(), "{mistakes:?} in {destinations}");
        prop_assert_eq!(contents.default, destinations.default);
        let read = contents.destinations.into_iter().map(|it| (it.destination.name.clone(), Arc::new(it.destination)));
        prop_assert_eq!(read.collect::<BTreeMap<_, _>>(), destinations.by_name);
    }

    #[test]
    fn any_text_is_read_or_told_what_is_wrong_with_it(text in "(\\PC|\\n|\\t|\\r){0,200}") {
        assert_sound(&text)?;
    }

    #[test]
    fn any_row_of_pieces_of_toml_is_read_or_told_what_is_wrong_with_it(
        pieces in prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..60),
    ) {
        assert_sound(&pieces.concat())?;
    }

    #[test]
    fn a_damaged_file_is_read_or_told_what_is_wrong_with_it(
        from in 0..SAMPLE.len(), length in 0usize..40, piece in prop::sample::select(PIECES.to_vec()),
    ) {
        let (before, rest): (Vec<_>, Vec<_>) = SAMPLE.chars().enumerate().partition(|(at, _)| *at < from);
        let kept = rest.into_iter().skip(length);
        let damaged: String = before.into_iter().map(|(_, c)| c).chain(piece.chars()).chain(kept.map(|(_, c)| c)).collect();
        assert_sound(&damaged)?;
    }
}
