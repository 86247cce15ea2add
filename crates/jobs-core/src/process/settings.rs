//! Collects a program's settings and every mistake in them, so that one start shows all that must be corrected.
//!
//! A setting comes from its flag, else its environment variable `VAR`, else the file that `VAR_FILE` names, else its default. No
//! method here fails: a bad value is noted and the default stands in until [`Settings::finish`] reports all of them. What a value
//! may be is its type's business (`FromStr`); checks across settings are the caller's, reported through [`Settings::problem`].

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt::{self, Display};
use std::str::FromStr;
use std::time::Duration;

use super::duration;
use super::secret::Secret;

/// The exit code of a program that refuses its settings; clap uses the same for unknown flags.
pub const EXIT_BAD_SETTINGS: u8 = 2;

/// Collects the settings of one program. `flag` arguments are written as on the command line (`--listen`), or `""` where a
/// setting has none; `given` is what clap found for that flag.
#[derive(Debug)]
pub struct Settings {
    prefix: &'static str,
    environment: BTreeMap<String, OsString>,
    asked_for: BTreeSet<String>,
    resolved: Vec<(&'static str, String)>,
    problems: Vec<String>,
}

impl Settings {
    /// Settings from the process's environment. Variables that begin with `prefix` (`API1_`) belong to this program alone.
    pub fn of_process(prefix: &'static str) -> Self {
        let names_and_values = std::env::vars_os();
        Self::new(prefix, names_and_values.map(|(name, value)| (name.to_string_lossy().into_owned(), value)))
    }

    /// Settings from the given environment, for tests.
    pub fn new(prefix: &'static str, environment: impl IntoIterator<Item = (String, OsString)>) -> Self {
        let environment = environment.into_iter().collect();
        Settings { prefix, environment, asked_for: BTreeSet::new(), resolved: Vec::new(), problems: Vec::new() }
    }

    /// A text, as it is.
    pub fn text(&mut self, flag: &str, var: &'static str, given: Option<String>, default: &str) -> String {
        let value = self.find(flag, var, given).unwrap_or_else(|| default.to_owned());
        self.resolved.push((var, value.clone()));
        value
    }

    /// A value of any type that can be read from text: an address, a number, a path.
    pub fn parsed<T>(&mut self, flag: &str, var: &'static str, given: Option<String>, default: T) -> T
    where
        T: FromStr<Err: Display> + Display,
    {
        let value = self.read(flag, var, given, T::from_str).unwrap_or(default);
        self.resolved.push((var, value.to_string()));
        value
    }

    /// Like [`parsed`](Self::parsed), for a setting that may be absent.
    pub fn optional<T>(&mut self, flag: &str, var: &'static str, given: Option<String>) -> Option<T>
    where
        T: FromStr<Err: Display> + Display,
    {
        let value = self.read(flag, var, given, T::from_str);
        self.resolved.push((var, value.as_ref().map(T::to_string).unwrap_or_default()));
        value
    }

    /// A duration such as `30s` or `1h 30m`.
    pub fn duration(&mut self, flag: &str, var: &'static str, given: Option<String>, default: Duration) -> Duration {
        let value = self.read(flag, var, given, duration::parse).unwrap_or(default);
        self.resolved.push((var, duration::show(value)));
        value
    }

    /// A list: the flag repeated, or the variable comma-separated. Blanks around items and empty items are dropped.
    pub fn list(&mut self, flag: &str, var: &'static str, given: Vec<String>, default: &[&str]) -> Vec<String> {
        let items = if given.is_empty() {
            self.find(flag, var, None).map(|text| split(&text))
        } else {
            self.asked_for.insert(var.to_owned());
            Some(given)
        };
        let items = items.unwrap_or_else(|| default.iter().map(ToString::to_string).collect());
        self.resolved.push((var, items.join(",")));
        items
    }

    /// A secret, from the variable or its `_FILE` twin only: a flag would show it in every process list.
    pub fn secret(&mut self, var: &'static str) -> Option<Secret> {
        let secret = self.find("", var, None).map(Secret::new);
        self.resolved.push((var, secret.as_ref().map(Secret::to_string).unwrap_or_default()));
        secret
    }

    /// Comma-separated secrets, from the variable or its `_FILE` twin only; the file may also have one a line.
    pub fn secret_list(&mut self, var: &'static str) -> Vec<Secret> {
        let text = self.find("", var, None).unwrap_or_default().replace(['\r', '\n'], ",");
        let secrets: Vec<Secret> = split(&text).into_iter().map(Secret::new).collect();
        self.resolved.push((var, secrets.iter().map(Secret::to_string).collect::<Vec<_>>().join(",")));
        secrets
    }

    /// Notes a mistake that only the caller can see, such as two settings that exclude each other.
    pub fn problem(&mut self, flag: &str, var: &str, detail: &str) {
        self.problems.push(format!("{}: {detail}", named(flag, var)));
    }

    /// The settings as they are, or every mistake in them. Call it once all have been read: variables with this program's prefix
    /// that nobody asked for are mistakes too.
    ///
    /// # Errors
    /// [`BadSettings`], for stderr; the program then exits with [`EXIT_BAD_SETTINGS`].
    pub fn finish(mut self) -> Result<Effective, BadSettings> {
        let ours = self.environment.keys().filter(|name| name.starts_with(self.prefix));
        let unknown = ours.filter(|name| {
            let asked_for = self.asked_for.contains(name.strip_suffix("_FILE").unwrap_or(name));
            !asked_for && !is_service_link(name)
        });
        for name in unknown {
            let known = self.asked_for.iter().filter(|known| known.starts_with(self.prefix));
            let closest =
                known.min_by_key(|known| distance(known, name)).map(|known| format!("; did you mean {known}"));
            self.problems.push(format!("{name}: no such setting{}", closest.unwrap_or_default()));
        }
        if self.problems.is_empty() { Ok(Effective(self.resolved)) } else { Err(BadSettings(self.problems)) }
    }

    fn read<T, E: Display>(
        &mut self,
        flag: &str,
        var: &'static str,
        given: Option<String>,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.find(flag, var, given)?;
        match parse(text.trim()) {
            Ok(value) => Some(value),
            Err(error) => {
                self.problem(flag, var, &format!("{text:?}: {error}"));
                None
            }
        }
    }

    /// The setting's text from flag, variable or file. An empty variable counts as unset: compose files pass `${X:-}` that way.
    fn find(&mut self, flag: &str, var: &'static str, given: Option<String>) -> Option<String> {
        self.asked_for.insert(var.to_owned());
        let file_var = format!("{var}_FILE");
        let from_variable = self.variable(var);
        let from_file = self.variable(&file_var);
        if given.is_some() {
            return given;
        }
        match (from_variable, from_file) {
            (Some(_), Some(_)) => {
                self.problem(flag, var, &format!("set {var} or {file_var}, not both"));
                None
            }
            (None, Some(path)) => match std::fs::read_to_string(&path) {
                Ok(text) if text.trim().is_empty() => {
                    self.problem("", &file_var, &format!("{path:?} is empty"));
                    None
                }
                Ok(text) => Some(text.trim_end_matches(['\r', '\n']).to_owned()),
                Err(error) => {
                    self.problem("", &file_var, &format!("cannot read {path:?}: {error}"));
                    None
                }
            },
            (value, None) => value,
        }
    }

    fn variable(&mut self, name: &str) -> Option<String> {
        let value = self.environment.get(name).filter(|value| !value.is_empty())?;
        if value.to_str().is_none() {
            self.problem("", name, "is not UTF-8");
        }
        self.environment.get(name)?.to_str().map(ToOwned::to_owned)
    }
}

/// The settings a program runs with, as `--print-config` shows them: a line `NAME = value` each, secrets as `***`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective(Vec<(&'static str, String)>);

impl Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, value)| writeln!(f, "{}", format!("{name} = {value}").trim_end()))
    }
}

/// Every mistake found in the settings, one a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct BadSettings(Vec<String>);

impl Display for BadSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bad settings, nothing was started:")?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

fn named(flag: &str, var: &str) -> String {
    if flag.is_empty() { var.to_owned() } else { format!("{flag} / {var}") }
}

fn split(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(ToOwned::to_owned).collect()
}

/// Kubernetes and docker links put such variables beside ours when a service is called like our prefix.
fn is_service_link(name: &str) -> bool {
    name.contains("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT")
        || name.contains("_PORT_")
}

/// How many letters must change to turn one name into the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.bytes().enumerate() {
            let changed = diagonal + usize::from(left != right);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
