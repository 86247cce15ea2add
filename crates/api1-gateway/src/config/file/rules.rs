//! A destination's own rules for classing answers: `[[destinations.NAME.rules]]`.

use jobs_core::destination::class_names;
use jobs_core::outcome::{Class, Rule, StatusRange};
use toml::de::DeValue;

use crate::config::mistakes::Findings;
use crate::config::section::Section;
use crate::config::value::{self, MAX_HEADER, Read, shown};

/// Most rules of a destination: they travel with every lease.
pub(super) const MAX_RULES: usize = 64;

/// Reads the rules, in their order.
pub(super) fn read(sections: Vec<Section<'_>>, findings: &mut Findings) -> Vec<Rule> {
    if let Some(first_beyond) = sections.get(MAX_RULES) {
        first_beyond.wrong(findings, &format!("a destination can have at most {MAX_RULES} rules"));
    }
    sections.into_iter().filter_map(|section| rule(section, findings)).collect()
}

fn rule(mut section: Section<'_>, findings: &mut Findings) -> Option<Rule> {
    if !["status", "header", "pointer"].iter().any(|condition| section.has(condition)) {
        section.absent(findings, "has no condition: add status, header or pointer");
    }
    let status = section.get("status", findings, status_range);
    let header =
        section.get("header", findings, |value| value::header_name(value::text(value)?).map(ToOwned::to_owned));
    let pointer = section.get("pointer", findings, value::pointer);
    let equals = section.get("equals", findings, equals);
    if !section.has("header") && !section.has("pointer") {
        section.wrong_at(
            "equals",
            findings,
            "says what a header or the value at a pointer must be: add header or pointer",
        );
    }
    let class = section.require("class", findings, class);
    section.finish(findings);
    Some(Rule { status, header, pointer, equals, class: class? })
}

/// `"404"`, `"4xx"`, `"500-599"`, or the bare number 404.
fn status_range(value: &DeValue<'_>) -> Read<StatusRange> {
    let text = if value.is_integer() { value::status(value)?.to_string() } else { value::text(value)?.to_owned() };
    StatusRange::try_from(text).map_err(|error| error.to_string())
}

fn equals(value: &DeValue<'_>) -> Read<String> {
    let text = value::text(value)?;
    if text.len() <= MAX_HEADER { Ok(text.to_owned()) } else { Err(format!("must have at most {MAX_HEADER} bytes")) }
}

fn class(value: &DeValue<'_>) -> Read<Class> {
    let text = value::text(value)?;
    text.parse().map_err(|()| format!("{} is not one of {}", shown(text), class_names()))
}
