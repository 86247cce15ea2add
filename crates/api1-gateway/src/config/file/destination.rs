//! One destination of the file: `[destinations.NAME]`.

use std::time::Duration;

use jobs_core::destination::{Destination, HealthCheck, OnUnknown, OrderingOnDead, RateLimit};
use jobs_core::gate::GateSettings;
use jobs_core::job::DestinationName;

use super::{Listed, Outside, headers, retry, rules};
use crate::config::mistakes::Findings;
use crate::config::section::Section;
use crate::config::value::{self, MAX_COUNT, MAX_SPAN};

/// A call that takes longer than an hour holds a slot of the destination for nothing.
const MAX_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3_600);
/// Fewest calls per second, one in about three hours: below that, a schedule is meant.
const MIN_PER_SECOND: f64 = 0.0001;
/// What a health check asks with and expects where the file does not say.
const HEALTH_METHOD: &str = "GET";
const HEALTH_STATUS: u16 = 200;

/// Reads a destination. What is wrong is noted, and its default stands in.
pub(super) fn read(
    name: DestinationName,
    mut section: Section<'_>,
    outside: &Outside<'_>,
    findings: &mut Findings,
) -> Listed {
    let url = section.require("url", findings, value::url).unwrap_or_default();
    let mut to = Destination::new(name, url);
    section.set("title", &mut to.title, findings, value::title);
    section.set("method", &mut to.method, findings, value::method);
    section.set("attempt_timeout", &mut to.attempt_timeout, findings, value::duration_up_to(MAX_ATTEMPT_TIMEOUT));
    section.set("forward_credentials", &mut to.forward_credentials, findings, value::boolean);
    to.max_in_flight = section.get("max_in_flight", findings, value::count);

    let policy = &mut to.policy;
    section.set("max_attempts", &mut policy.max_attempts, findings, value::count);
    policy.expires_after = section.get("expires_after", findings, value::duration_up_to(MAX_SPAN));
    let on_unknown = value::one_of(&[("retry", OnUnknown::Retry), ("dead_letter", OnUnknown::DeadLetter)]);
    section.set("on_unknown", &mut policy.on_unknown, findings, on_unknown);
    policy.idempotency_window = section.get("idempotency_window", findings, value::duration_up_to(MAX_SPAN));
    policy.max_lost = section.get("max_lost", findings, value::count);
    let ordering_on_dead = value::one_of(&[("free", OrderingOnDead::Free), ("block", OrderingOnDead::Block)]);
    section.set("ordering_on_dead", &mut policy.ordering_on_dead, findings, ordering_on_dead);

    if let Some(table) = section.section("retry", findings) {
        policy.retry = retry::read(table, findings);
    }
    to.rate_limit = section.section("rate_limit", findings).and_then(|table| rate_limit(table, findings));
    if let Some(table) = section.section("gate", findings) {
        to.gate = gate(table, findings);
    }
    to.health_check = section.section("health_check", findings).and_then(|table| health_check(table, findings));
    to.rules = rules::read(section.sections("rules", findings), findings);
    let mut secret_headers = Vec::new();
    if let Some(table) = section.section("headers", findings) {
        (to.headers, secret_headers) = headers::read(&table, outside, findings);
    }
    section.finish(findings);
    Listed { destination: to, secret_headers }
}

fn rate_limit(mut section: Section<'_>, findings: &mut Findings) -> Option<RateLimit> {
    let per_second = section.require("per_second", findings, value::number(MIN_PER_SECOND, f64::from(MAX_COUNT)));
    let burst = section.get("burst", findings, value::count);
    section.finish(findings);
    let per_second = per_second?;
    // Without a word about bursts, what may be called in a second may be called at once.
    Some(RateLimit { per_second, burst: burst.unwrap_or(per_second.ceil() as u32) })
}

fn gate(mut section: Section<'_>, findings: &mut Findings) -> GateSettings {
    let GateSettings { start_limit, max_limit } = GateSettings::default();
    let start_given = section.get("start_limit", findings, value::count);
    let max_given = section.get("max_limit", findings, value::count);
    let max_is_known = max_given.is_some() || !section.has("max_limit");
    let max_limit = max_given.unwrap_or(max_limit);
    if max_is_known && start_given.is_some_and(|start| start > max_limit) {
        section.wrong_at("start_limit", findings, &format!("is more than max_limit ({max_limit})"));
    }
    section.finish(findings);
    GateSettings { start_limit: start_given.unwrap_or(start_limit).min(max_limit), max_limit }
}

/// A health check of which nothing is said but its URL.
pub(in crate::config) fn usual_health_check(url: String) -> HealthCheck {
    HealthCheck { url, method: HEALTH_METHOD.to_owned(), expect: HEALTH_STATUS }
}

fn health_check(mut section: Section<'_>, findings: &mut Findings) -> Option<HealthCheck> {
    let url = section.require("url", findings, value::url);
    let mut check = usual_health_check(url.unwrap_or_default());
    section.set("method", &mut check.method, findings, value::method);
    section.set("expect", &mut check.expect, findings, value::status);
    section.finish(findings);
    Some(check)
}
