//! Which jobs are asked for: from an address or a form, back into one, and in words.

use jobs_core::job::{DeadReason, StateName};
use jobs_core::store::Filter;
use jobs_core::time::Timestamp;

use super::outcome_words;
use super::words::query as to_query;
use crate::app::App;
use crate::problem::Problem;
use crate::public::list::{self, Asked};

const TIMES: [&str; 4] = ["created_from", "created_until", "finished_from", "finished_until"];
const REASONS: [DeadReason; 6] = [
    DeadReason::Permanent,
    DeadReason::Exhausted,
    DeadReason::Expired,
    DeadReason::Unknown,
    DeadReason::Lost,
    DeadReason::Corrupt,
];

/// As callers of the API write it, and times as a browser's field for them does, without seconds and zone: they are UTC.
pub(super) fn read(pairs: Vec<(String, String)>) -> Result<Asked, Problem> {
    let mend = |(name, mut value): (String, String)| {
        if TIMES.contains(&name.as_str()) {
            match value.len() {
                16 => value.push_str(":00Z"),
                19 => value.push('Z'),
                _ => {}
            }
        }
        (name, value)
    };
    list::read(pairs.into_iter().filter(|(name, _)| name != "said").map(mend).collect())
}

/// The parameters of `filter`, by the API's names.
pub(super) fn pairs(filter: &Filter) -> Vec<(&'static str, String)> {
    let time = |at: Option<Timestamp>| at.map_or(String::new(), |at| at.to_string());
    vec![
        ("state", filter.state.map_or(String::new(), |state| state.as_str().to_owned())),
        ("destination", filter.destination.as_ref().map_or(String::new(), ToString::to_string)),
        ("q", filter.text.clone().unwrap_or_default()),
        ("error", filter.error.clone().unwrap_or_default()),
        ("dead_reason", filter.dead_reason.map_or("", name_of).to_owned()),
        ("resolved", filter.resolved.map_or(String::new(), |resolved| resolved.to_string())),
        ("created_from", time(filter.created_from)),
        ("created_until", time(filter.created_until)),
        ("finished_from", time(filter.finished_from)),
        ("finished_until", time(filter.finished_until)),
    ]
}

/// The query of `filter` and what else is to be in it.
pub(super) fn address(filter: &Filter, more: &[(&str, &str)]) -> String {
    let pairs = pairs(filter);
    let mut all: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
    all.extend(more);
    to_query(&all)
}

/// What jobs that fit are: "that are waiting, for api2". Empty for all jobs.
pub(super) fn in_words(filter: &Filter) -> String {
    let mut words = Vec::new();
    let mut further = |text: Option<String>| words.extend(text);
    further(filter.state.map(|state| format!("that are {}", outcome_words::state(state).0.to_lowercase())));
    further(filter.destination.as_ref().map(|name| format!("for {name}")));
    further(filter.dead_reason.map(|reason| format!("because {}", outcome_words::dead(reason))));
    further(filter.text.as_ref().map(|text| format!("with {text:?} in payload or error")));
    further(filter.error.as_ref().map(|text| format!("with {text:?} in their last error")));
    further(filter.resolved.map(|resolved| if resolved { "resolved" } else { "unresolved" }.to_owned()));
    further(filter.created_from.map(|at| format!("accepted from {at}")));
    further(filter.created_until.map(|at| format!("accepted until {at}")));
    further(filter.finished_from.map(|at| format!("ended from {at}")));
    further(filter.finished_until.map(|at| format!("ended until {at}")));
    words.join(", ")
}

/// As the forms show it. Choices: value, words, whether it is chosen.
pub(super) struct FilterView {
    pub(super) text: String,
    pub(super) error: String,
    pub(super) states: Vec<(&'static str, &'static str, bool)>,
    pub(super) destinations: Vec<(String, String, bool)>,
    pub(super) reasons: Vec<(&'static str, &'static str, bool)>,
    pub(super) resolved: Vec<(&'static str, &'static str, bool)>,
    pub(super) created_from: String,
    pub(super) created_until: String,
    pub(super) finished_from: String,
    pub(super) finished_until: String,
}

impl FilterView {
    pub(super) fn new(app: &App, filter: &Filter) -> Self {
        let state = |state: StateName| (state.as_str(), outcome_words::state(state).0, filter.state == Some(state));
        let destinations = app.dispatcher().views().into_iter().map(|view| {
            let is_chosen = filter.destination.as_ref() == Some(&view.name);
            (view.name.to_string(), view.title, is_chosen)
        });
        let reason = |reason| (name_of(reason), outcome_words::dead(reason), filter.dead_reason == Some(reason));
        let resolved = [("false", "unresolved", Some(false)), ("true", "resolved", Some(true)), ("", "any", None)];
        let field = |at: Option<Timestamp>| at.map_or(String::new(), |at| at.to_string()[..16].to_owned());
        FilterView {
            text: filter.text.clone().unwrap_or_default(),
            error: filter.error.clone().unwrap_or_default(),
            states: StateName::ALL.map(state).to_vec(),
            destinations: destinations.collect(),
            reasons: REASONS.map(reason).to_vec(),
            resolved: resolved.map(|(value, words, meant)| (value, words, filter.resolved == meant)).to_vec(),
            created_from: field(filter.created_from),
            created_until: field(filter.created_until),
            finished_from: field(filter.finished_from),
            finished_until: field(filter.finished_until),
        }
    }
}

/// The API's name of it.
const fn name_of(reason: DeadReason) -> &'static str {
    match reason {
        DeadReason::Permanent => "permanent",
        DeadReason::Exhausted => "exhausted",
        DeadReason::Expired => "expired",
        DeadReason::Unknown => "unknown",
        DeadReason::Lost => "lost",
        DeadReason::Corrupt => "corrupt",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_a_form_sends_is_read_and_written_back() {
        let sent = [
            ("state", "dead"),
            ("destination", "api2"),
            ("error", "a&b"),
            ("dead_reason", "lost"),
            ("resolved", "false"),
            ("finished_from", "2026-11-26T02:03"),
            ("said", "x"),
        ];
        let filter = read(owned(&sent)).unwrap().filter;
        assert_eq!(filter.finished_from, Some("2026-11-26T02:03:00Z".parse().unwrap()));
        assert_eq!(filter.dead_reason, Some(DeadReason::Lost));
        let again: Vec<(String, String)> =
            pairs(&filter).into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        assert_eq!(read(again).unwrap().filter, filter);
        assert_eq!(
            in_words(&filter),
            "that are dead, for api2, because too many workers were lost with it, with \"a&b\" in their last error, \
             unresolved, ended from 2026-11-26T02:03:00.000Z"
        );
    }

    #[test]
    fn every_reason_has_the_name_the_api_gives_it() {
        for reason in REASONS {
            assert_eq!(serde_json::to_value(reason).unwrap(), name_of(reason));
        }
    }
}
