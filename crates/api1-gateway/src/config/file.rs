//! The destinations file: TOML into checked destinations, with every mistake at its line.
//!
//! It decides what may be written there. Values of the environment and of secret files are fetched through [`Outside`]; what
//! flags and file say together is decided in [`super::destinations`].

mod destination;
mod headers;
mod retry;
mod rules;

use std::collections::BTreeSet;
use std::path::Path;

pub(super) use self::destination::usual_health_check;
use jobs_core::destination::Destination;
use jobs_core::job::{DestinationName, NotADestinationName};
use toml::de::{DeTable, DeValue};

use super::destinations::Environment;
use super::mistakes::Findings;
use super::section::Section;
use super::value::{self, Read};

/// Most destinations of a file: each is a row of every page and a label of every metric.
const MAX_DESTINATIONS: usize = 1_000;

/// What a file may refer to, and what was said elsewhere.
pub(super) struct Outside<'a> {
    /// Paths in the file are relative to this folder, its own.
    pub(super) folder: &'a Path,
    /// An environment variable's value.
    pub(super) environment: Environment<'a>,
    /// The destinations named by flags.
    pub(super) flags: &'a BTreeSet<DestinationName>,
}

/// What a file says.
#[derive(Default)]
pub(super) struct Contents {
    pub(super) default: Option<DestinationName>,
    /// Every destination the file names, those with mistakes too.
    pub(super) names: BTreeSet<DestinationName>,
    pub(super) destinations: Vec<Listed>,
}

/// A destination of the file.
pub(super) struct Listed {
    pub(super) destination: Destination,
    /// Names of the headers whose values came from outside the file.
    pub(super) secret_headers: Vec<String>,
}

/// Reads the text of a file. What it answers is to be used only if there are no findings.
pub(super) fn read(text: &str, outside: &Outside<'_>, findings: &mut Findings) -> Contents {
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let span = error.span().unwrap_or(text.len()..text.len());
        match error.message() {
            // The first of the two stands, and the rest of the file is read as it is.
            repeated @ "duplicate key" => findings.misplaced(span.start, text.get(span).unwrap_or_default(), repeated),
            broken => findings.syntax(span.start, broken),
        }
    }
    let mut root = Section::root(document.get_ref());
    let mut contents = Contents::default();
    if let Some(section) = root.section("destinations", findings) {
        contents.read_destinations(&section, outside, findings);
    }
    let saw_all = findings.saw_all();
    let is_known = |name: &DestinationName| !saw_all || contents.names.contains(name) || outside.flags.contains(name);
    contents.default = root.get("default", findings, |value| name_of_a_destination(value, is_known));
    root.finish(findings);
    contents
}

impl Contents {
    fn read_destinations(&mut self, section: &Section<'_>, outside: &Outside<'_>, findings: &mut Findings) {
        for entry in section.entries() {
            let Some(name) = entry.read_key(findings, name) else { continue };
            self.names.insert(name.clone());
            if outside.flags.contains(&name) {
                findings.wrong(
                    entry.key_offset,
                    &entry.path,
                    "also named by --destination / API1_DESTINATIONS: keep one of them",
                );
            }
            if let Some(section) = Section::of(entry.value, entry.path, entry.key_offset, findings) {
                self.destinations.push(destination::read(name, section, outside, findings));
            }
        }
        if self.names.len() > MAX_DESTINATIONS {
            section.wrong(findings, &format!("more than {MAX_DESTINATIONS} destinations"));
        }
    }
}

fn name_of_a_destination(value: &DeValue<'_>, is_known: impl Fn(&DestinationName) -> bool) -> Read<DestinationName> {
    let name = name(value::text(value)?)?;
    if is_known(&name) { Ok(name) } else { Err(format!("{name} is not one of the destinations")) }
}

fn name(text: &str) -> Read<DestinationName> {
    text.parse().map_err(|error: NotADestinationName| error.to_string())
}

#[cfg(test)]
mod tests;
