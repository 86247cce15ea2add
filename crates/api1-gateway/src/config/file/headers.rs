//! A destination's headers: `headers = { "X-Env" = "prod", Authorization = { env = "TOKEN" }, "X-Key" = { file = "key" } }`.
//!
//! Values from the environment or a file are secrets; what is wrong with them is told without showing them.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use toml::de::DeValue;

use super::Outside;
use crate::config::mistakes::Findings;
use crate::config::section::{Entry, Section};
use crate::config::value::{self, MAX_HEADER, Read, shown};

/// Most headers of a destination: servers refuse requests with many more.
pub(super) const MAX_HEADERS: usize = 64;
/// Headers that cannot be set, each with its reason. Names in lower case.
const RESERVED: [(&str, &str); 15] = [
    ("host", "it comes from the URL"),
    ("content-length", "it comes from the payload"),
    ("content-type", "it comes with each job"),
    ("idempotency-key", "it is the job's id"),
    ("traceparent", "it comes with each job"),
    ("connection", "it is the connection's business"),
    ("expect", "it is the connection's business"),
    ("keep-alive", "it is the connection's business"),
    ("proxy-authenticate", "it is the connection's business"),
    ("proxy-authorization", "it is the connection's business"),
    ("proxy-connection", "it is the connection's business"),
    ("te", "it is the connection's business"),
    ("trailer", "it is the connection's business"),
    ("transfer-encoding", "it is the connection's business"),
    ("upgrade", "it is the connection's business"),
];
/// Beginnings of names that are ours: what an attempt says of itself, and its signature.
const RESERVED_PREFIXES: [&str; 2] = ["job-", "webhook-"];
/// The gateway's own settings. A header that took one would send a key of ours to somebody else.
const OWN_VARIABLES: &str = "API1_";

/// Where a header's value comes from.
enum Source<'t> {
    Literal(&'t str),
    Variable(&'t str),
    File(&'t str),
}

/// Reads the headers: (name, value), and the names of those whose value came from outside the file.
pub(super) fn read(
    section: &Section<'_>,
    outside: &Outside<'_>,
    findings: &mut Findings,
) -> (Vec<(String, String)>, Vec<String>) {
    let mut headers = Vec::new();
    let mut secret = Vec::new();
    let mut seen = BTreeSet::new();
    for entry in section.entries() {
        let name = entry.read_key(findings, |name| usable_name(name, &mut seen));
        let Some(source) = source(&entry, findings) else { continue };
        let value = entry.read(findings, |_| source.fetch(outside));
        let Some((name, value)) = name.zip(value) else { continue };
        if !matches!(source, Source::Literal(_)) {
            secret.push(name.clone());
        }
        headers.push((name, value));
    }
    if headers.len() > MAX_HEADERS {
        section.wrong(findings, &format!("a destination can have at most {MAX_HEADERS} headers"));
    }
    (headers, secret)
}

fn usable_name(name: &str, seen: &mut BTreeSet<String>) -> Read<String> {
    value::header_name(name)?;
    let lower = name.to_ascii_lowercase();
    if let Some((_, reason)) = RESERVED.iter().find(|(reserved, _)| *reserved == lower) {
        return Err(format!("this header cannot be set: {reason}"));
    }
    if let Some(prefix) = RESERVED_PREFIXES.iter().find(|prefix| lower.starts_with(**prefix)) {
        return Err(format!("headers that begin with {prefix} are set for each attempt"));
    }
    // Two of one name, in whatever case, would both be sent.
    if seen.insert(lower) {
        Ok(name.to_owned())
    } else {
        Err("this header is set twice, in different capitals".to_owned())
    }
}

fn source<'t>(entry: &Entry<'t>, findings: &mut Findings) -> Option<Source<'t>> {
    if entry.value.as_table().is_none() {
        let wanted = r#"a string, { env = "NAME" } or { file = "PATH" }"#;
        return entry
            .read(findings, |value| value.as_str().map(Source::Literal).ok_or_else(|| value::unlike(wanted, value)));
    }
    let mut table = Section::of(entry.value, entry.path.clone(), entry.value_offset, findings)?;
    let variable = table.get("env", findings, variable_name);
    let file = table.get("file", findings, value::text);
    if table.has("env") == table.has("file") {
        table.wrong(findings, "must have either env or file");
    }
    table.finish(findings);
    variable.map(Source::Variable).or(file.map(Source::File))
}

fn variable_name<'t>(value: &'t DeValue<'_>) -> Read<&'t str> {
    let name = value::text(value)?;
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(format!("{} cannot name an environment variable", shown(name)));
    }
    if name.starts_with(OWN_VARIABLES) {
        return Err(format!("variables that begin with {OWN_VARIABLES} are settings of the gateway: use another name"));
    }
    Ok(name)
}

impl Source<'_> {
    fn fetch(&self, outside: &Outside<'_>) -> Read<String> {
        let (origin, value) = match self {
            Source::Literal(text) => (None, (*text).to_owned()),
            Source::Variable(name) => {
                let origin = format!("environment variable {name}");
                let value = (outside.environment)(name).filter(|value| !value.is_empty());
                let value = value.ok_or_else(|| format!("{origin} is not set or empty"))?;
                (Some(origin.clone()), value.into_string().map_err(|_| format!("{origin} is not UTF-8"))?)
            }
            Source::File(path) => {
                let origin = format!("file {}", shown(path));
                let value = read_secret(&outside.folder.join(path))
                    .map_err(|error| format!("{origin} cannot be read: {error}"))?;
                if value.is_empty() {
                    return Err(format!("{origin} is empty"));
                }
                (Some(origin), value)
            }
        };
        let checked = value::header_value(&value).map(ToOwned::to_owned);
        checked.map_err(|detail| origin.map_or(detail.clone(), |origin| format!("{origin}: {detail}")))
    }
}

/// The text of a secret file, without the line end that editors put behind it.
fn read_secret(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let limit = MAX_HEADER as u64 + 3;
    File::open(path)?.take(limit).read_to_string(&mut text)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
