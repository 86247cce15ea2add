//! How long a destination's jobs wait between attempts: `retry = { … }`.

use std::time::Duration;

use jobs_core::process::duration;
use jobs_core::retry::{Backoff, Jitter, RetryPolicy};
use toml::de::DeValue;

use crate::config::mistakes::Findings;
use crate::config::section::Section;
use crate::config::value::{self, Read};

/// Most delays in a schedule: its last one repeats, so a longer one is a formula.
pub(super) const MAX_SCHEDULE: usize = 100;
/// A delay that grows faster than this is at its bound with the second failure.
const MAX_FACTOR: f64 = 1_000.0;
/// The keys that a schedule replaces.
const FORMULA: [&str; 3] = ["base", "factor", "max_delay"];

/// Reads retry settings: a formula (`base`, `factor`, `max_delay`) or a `schedule`, and `jitter` for both.
pub(super) fn read(mut section: Section<'_>, findings: &mut Findings) -> RetryPolicy {
    let RetryPolicy { mut backoff, mut jitter } = RetryPolicy::default();
    let words = value::one_of(&[("none", Jitter::None), ("full", Jitter::Full), ("equal", Jitter::Equal)]);
    section.set("jitter", &mut jitter, findings, words);
    if section.has("schedule") {
        section.set("schedule", &mut backoff, findings, |value| Ok(Backoff::Schedule(schedule(value)?)));
        for key in FORMULA {
            section.wrong_at(key, findings, "cannot be set together with schedule: remove one of them");
        }
    } else if let Backoff::Exponential { base, factor, max_delay } = &mut backoff {
        section.set("factor", factor, findings, value::number(1.0, MAX_FACTOR));
        let bound = || value::duration_up_to(RetryPolicy::MAX_DELAY);
        let base_given = section.get("base", findings, bound());
        let max_given = section.get("max_delay", findings, bound());
        // With one of the two wrong, nothing can be said of both.
        let comparable = base_given.is_some() == section.has("base") && max_given.is_some() == section.has("max_delay");
        *base = base_given.unwrap_or(*base);
        *max_delay = max_given.unwrap_or(*max_delay);
        if comparable && base > max_delay {
            let detail =
                format!("base ({}) is longer than max_delay ({})", duration::show(*base), duration::show(*max_delay));
            section.wrong_at(if section.has("base") { "base" } else { "max_delay" }, findings, &detail);
        }
    }
    section.finish(findings);
    RetryPolicy { backoff, jitter }
}

fn schedule(value: &DeValue<'_>) -> Read<Vec<Duration>> {
    let items = value.as_array().ok_or_else(|| value::unlike("an array of durations", value))?;
    if items.is_empty() || items.len() > MAX_SCHEDULE {
        return Err(format!("must have 1 to {MAX_SCHEDULE} delays"));
    }
    let read = value::duration_up_to(RetryPolicy::MAX_DELAY);
    items.iter().map(|item| read(item.get_ref())).collect()
}
