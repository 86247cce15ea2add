//! What a destination's gate is doing, in words for somebody who was woken by it.

use std::time::Duration;

use jobs_core::dispatch::{DestinationView, GateStateName};
use jobs_core::time::Timestamp;

use super::words::{Moment, about, count, jobs, rate, span};
use crate::history::ring::Sample;

/// Jobs that are due for longer than this while nothing is called: nobody takes them.
const UNSERVED: Duration = Duration::from_secs(10);
/// Calls in the last seconds from which on their failures say something.
const ENOUGH_CALLS: u32 = 5;

/// How bad it is. Always shown with a word, never by colour alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tone {
    Quiet,
    Good,
    Busy,
    Warn,
    Bad,
}

impl Tone {
    /// The style sheet's name of it.
    pub(super) const fn style(self) -> &'static str {
        match self {
            Tone::Quiet => "quiet",
            Tone::Good => "good",
            Tone::Busy => "busy",
            Tone::Warn => "warn",
            Tone::Bad => "bad",
        }
    }
}

/// What is known of a destination at `now`.
#[derive(Debug, Clone)]
pub(super) struct Facts<'a> {
    pub(super) view: &'a DestinationView,
    pub(super) waiting: u64,
    /// How long the oldest waiting job has been due, if one is.
    pub(super) oldest_due: Option<Duration>,
    /// For how long the watchdog has seen due work and nobody who gets it, if it has.
    pub(super) stalled: Option<Duration>,
    /// Workers that were heard from.
    pub(super) workers: usize,
    /// Until it is drained at the present rate; `None` while nothing ends.
    pub(super) drain: Option<Duration>,
    /// The last ten seconds.
    pub(super) recent: Option<Sample>,
    pub(super) now: Timestamp,
}

/// The state in a word, the situation in a sentence, and what to do, if there is anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GateWords {
    pub(super) tone: Tone,
    pub(super) state: &'static str,
    pub(super) sentence: String,
    pub(super) hint: Option<String>,
}

/// Says it.
pub(super) fn say(facts: &Facts<'_>) -> GateWords {
    let view = facts.view;
    let (title, held) = (&view.title, jobs(facts.waiting));
    let passes = !view.removed && matches!(view.state, GateStateName::Ramp | GateStateName::Closed);
    if let Some(unserved) = unserved(facts).filter(|_| passes) {
        return unserved;
    }
    match view.state {
        _ if view.removed => words(
            Tone::Warn,
            "Removed",
            format!("{title} is gone from the settings; {held} held until it is back."),
            Some("Put it back into the destinations file and send the gateway a SIGHUP."),
        ),
        GateStateName::Paused => words(
            Tone::Warn,
            "Paused",
            format!("{title} is paused by hand; {held} held. Nothing is sent until somebody resumes it."),
            None,
        ),
        GateStateName::Open => open(facts),
        GateStateName::Ramp if facts.waiting == 0 => {
            words(Tone::Good, "Up", format!("{title} is up; nothing waits. It opens further as jobs come."), None)
        }
        GateStateName::Ramp => words(
            Tone::Busy,
            "Recovering",
            format!("{title} is opening up, {} at a time so far; {}.", calls(view.limit), left(facts)),
            None,
        ),
        GateStateName::Closed => closed(facts),
    }
}

fn open(facts: &Facts<'_>) -> GateWords {
    let Facts { view, waiting, now, .. } = *facts;
    let (title, held) = (&view.title, jobs(waiting));
    let reason = view.reason.as_deref().unwrap_or_default();
    let since = view.since.map_or_else(String::new, |since| {
        format!(" since {} ({})", Moment::short(since, now).text, span(now.since(since)))
    });
    if let Some(refusal) = reason.strip_prefix("misconfigured: ") {
        let hint = "Mend its credential or address in the settings and send the gateway a SIGHUP: the first call that gets \
            through releases them all.";
        let sentence = format!("{title} refuses all jobs{since}: {refusal}; {held} held.");
        return words(Tone::Bad, "Misconfigured", sentence, Some(hint));
    }
    let probing = match facts.recent.map_or(0.0, per_second) {
        rate if rate < 0.05 => "no probe in the last 10 s".to_owned(),
        rate if rate < 0.75 => format!("probing about every {:.0} s", 1.0 / rate),
        rate if rate < 1.5 => "probing about every second".to_owned(),
        rate => format!("probing about {rate:.0} times a second"),
    };
    let back = match (waiting > 0 && view.goodput > 0.1).then(|| waiting as f64 / view.goodput) {
        Some(seconds) => format!("; drains in {} once back", about(Duration::from_secs_f64(seconds.min(1e9)))),
        None => String::new(),
    };
    let sentence = format!("{title} is down{since}; {held} held; {probing}{back}.");
    let answer = view.last_error.as_deref().unwrap_or(reason);
    let hint = format!("Its last answer: {answer}. Nothing is lost, and the outage spends nobody's attempts.");
    words(Tone::Bad, "Down", sentence, Some(&hint))
}

/// Work is due, nothing holds it, and nobody takes it.
fn unserved(facts: &Facts<'_>) -> Option<GateWords> {
    let Facts { view, waiting, recent, .. } = *facts;
    let idle = recent.is_none_or(|recent| recent.calls == 0) && view.in_flight == 0;
    let due = facts.stalled.or(facts.oldest_due.filter(|due| idle && *due > UNSERVED))?;
    let sentence =
        format!("{} wait for {}, due for up to {}, and no worker takes them.", jobs(waiting), view.title, span(due));
    let hint = match facts.workers {
        0 => "No worker has been heard from: is a retry-worker running, and does it reach this gateway?",
        _ => "There are workers, and they get none: the gateway's log may say why.",
    };
    Some(words(Tone::Bad, "Not served", sentence, Some(hint)))
}

fn closed(facts: &Facts<'_>) -> GateWords {
    let Facts { view, waiting, recent, .. } = *facts;
    let title = &view.title;
    let (made, oks) = recent.map_or((0, 0), |recent| (recent.calls, recent.oks));
    if made >= ENOUGH_CALLS && oks * 2 < made {
        let failed = made - oks;
        let sentence = format!(
            "{title} failed {} of the last {} calls; {}.",
            count(failed.into()),
            count(made.into()),
            left(facts)
        );
        return words(Tone::Warn, "Failing", sentence, None);
    }
    let speed = recent.map_or(0.0, per_second);
    match (made > 0 || view.in_flight > 0, waiting) {
        (true, 0) => {
            words(Tone::Good, "Up", format!("{title} takes {} calls a second; nothing waits.", rate(speed)), None)
        }
        (true, _) => {
            words(Tone::Good, "Up", format!("{title} takes {} calls a second; {}.", rate(speed), left(facts)), None)
        }
        (false, 0) => words(Tone::Quiet, "Idle", format!("Nothing waits for {title}."), None),
        (false, _) => words(Tone::Good, "Up", format!("{} for {title} wait for their time.", jobs(waiting)), None),
    }
}

/// How much is left, and for how long.
fn left(facts: &Facts<'_>) -> String {
    match (facts.waiting, facts.drain) {
        (0, _) => "nothing waits".to_owned(),
        (waiting, Some(drain)) => format!("{} left, drained in {}", jobs(waiting), about(drain)),
        (waiting, None) => format!("{} left", jobs(waiting)),
    }
}

fn calls(number: u32) -> String {
    format!("{} {}", count(number.into()), if number == 1 { "call" } else { "calls" })
}

/// Calls a second that came back.
pub(super) fn per_second(sample: Sample) -> f64 {
    f64::from(sample.calls) / (f64::from(sample.millis) / 1_000.0)
}

fn words(tone: Tone, state: &'static str, sentence: String, hint: Option<&str>) -> GateWords {
    GateWords { tone, state, sentence, hint: hint.map(str::to_owned) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::ring::tests::sample;
    use crate::history::track::tests::view;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn facts(view: &DestinationView) -> Facts<'_> {
        let now = at("2026-11-26T12:40:00Z");
        Facts { view, waiting: 1_204, oldest_due: None, stalled: None, workers: 0, drain: None, recent: None, now }
    }

    #[test]
    fn an_outage_is_told_in_one_sentence() {
        let mut view = view(GateStateName::Open, Some("down: answered 503"));
        view.since = Some(at("2026-11-26T12:03:10Z"));
        view.goodput = 10.0;
        let recent = Sample { calls: 10, oks: 0, millis: 10_000, ..sample(1) };
        let said = say(&Facts { recent: Some(recent), ..facts(&view) });
        assert_eq!((said.tone, said.state), (Tone::Bad, "Down"));
        assert_eq!(
            said.sentence,
            "API 2 is down since 12:03 (36 min); 1,204 jobs held; probing about every second; drains in about 2 min once back."
        );
        assert!(said.hint.unwrap().contains("answered 503"));
    }

    #[test]
    fn a_misconfigured_destination_says_what_to_mend() {
        let view = view(GateStateName::Open, Some("misconfigured: every job gets the same refusal (answered 401)"));
        let said = say(&facts(&view));
        assert_eq!(said.state, "Misconfigured");
        assert!(said.sentence.contains("answered 401") && said.hint.unwrap().contains("credential"));
    }

    #[test]
    fn due_jobs_that_nobody_takes_are_an_alarm_and_jobs_for_later_are_not() {
        let view = view(GateStateName::Closed, None);
        let unserved = Facts { oldest_due: Some(Duration::from_secs(95)), ..facts(&view) };
        let said = say(&unserved);
        assert_eq!((said.tone, said.state), (Tone::Bad, "Not served"));
        assert_eq!(said.sentence, "1,204 jobs wait for API 2, due for up to 1 min 35 s, and no worker takes them.");
        assert!(said.hint.unwrap().contains("No worker has been heard from"));
        let stalled = Facts { stalled: Some(Duration::from_secs(60)), workers: 2, ..facts(&view) };
        assert!(say(&stalled).hint.unwrap().contains("There are workers"));
        assert_eq!(say(&Facts { recent: Some(sample(1)), ..unserved }).tone, Tone::Good, "some are taken");
        assert_eq!(say(&facts(&view)).sentence, "1,204 jobs for API 2 wait for their time.");
    }

    #[test]
    fn every_other_state_has_its_word() {
        let closed = view(GateStateName::Closed, None);
        assert_eq!(say(&Facts { waiting: 0, ..facts(&closed) }).state, "Idle");
        let failing = Sample { calls: 10, oks: 2, ..sample(1) };
        assert_eq!(say(&Facts { recent: Some(failing), ..facts(&closed) }).state, "Failing");
        let ramp = view(GateStateName::Ramp, None);
        let said = say(&Facts { drain: Some(Duration::from_secs(3)), ..facts(&ramp) });
        assert_eq!(
            said.sentence,
            "API 2 is opening up, 16 calls at a time so far; 1,204 jobs left, drained in about 3 s."
        );
        assert_eq!(say(&Facts { waiting: 0, ..facts(&ramp) }).tone, Tone::Good, "nobody need watch it");
        assert_eq!(say(&facts(&view(GateStateName::Paused, Some("paused by hand")))).state, "Paused");
        let removed = DestinationView { removed: true, ..view(GateStateName::Paused, None) };
        assert_eq!(say(&facts(&removed)).state, "Removed");
    }
}
