//! The destinations of the gateway: what flags and the file say together, read at start and again at each reload.
//!
//! [`load`] answers either all of it, checked, or every mistake; a caller that keeps the old value on a mistake has a reload
//! that cannot break a running gateway.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jobs_core::destination::{Destination, HealthCheck};
use jobs_core::job::DestinationName;

use super::file::{self, Contents, Listed, Outside};
use super::http_url;
use super::mistakes::{Findings, Lines, Mistake, Mistakes, Place};
use super::size::ByteSize;
use super::value::shown;

/// Where api2-flaky listens; what a gateway that was told nothing delivers to.
const DEFAULT_DESTINATION: &str = "api2=http://127.0.0.1:8082/api2/simulate";
/// The default where several destinations are configured and nobody names one: the original design's only destination.
const USUAL_DEFAULT: &str = "api2";
/// Largest file: room for every destination with every setting, and no room for a mistaken path to a log file.
pub const MAX_FILE: u64 = 1 << 20;

const DESTINATION_SETTING: Place = Place::Setting { flag: "--destination", var: "API1_DESTINATIONS" };
const HEALTH_SETTING: Place = Place::Setting { flag: "--health-check", var: "API1_HEALTH_CHECKS" };
const ALERT_SETTING: Place = Place::Setting { flag: "--alert-webhook", var: "API1_ALERT_WEBHOOK" };
const DEFAULT_SETTING: Place = Place::Setting { flag: "--default-destination", var: "API1_DEFAULT_DESTINATION" };

/// Answers an environment variable's value.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Where the destinations come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// The destinations file.
    pub file: Option<PathBuf>,
    /// `NAME=URL` each.
    pub destinations: Vec<String>,
    /// `NAME=URL` each, of destinations named above or in the file.
    pub health_checks: Vec<String>,
    /// Goes before the file's `default`.
    pub default: Option<String>,
    /// Where trouble is told: the URL of one more destination, [`alerts`].
    pub alert_webhook: Option<String>,
}

/// The name of the destination that is told of trouble.
pub fn alerts() -> DestinationName {
    "alerts".parse().expect("it is a destination's name")
}

/// The destinations, checked. `Debug` and `Display` show no secrets; the [`Destination`]s themselves hold them.
#[derive(Clone, PartialEq)]
pub struct Destinations {
    /// Never empty.
    pub by_name: BTreeMap<DestinationName, Arc<Destination>>,
    /// Where jobs go that name none; one of `by_name`. `None`: every job must name one.
    pub default: Option<DestinationName>,
    /// Headers whose values came from the environment or a file.
    pub(super) secret_headers: BTreeSet<(DestinationName, String)>,
}

/// Reads all destinations. Called at start and at each reload; the files and variables it names are read each time.
///
/// # Errors
/// Every mistake, with its place.
pub fn load(sources: &Sources) -> Result<Destinations, Mistakes> {
    load_with(sources, &|name| std::env::var_os(name))
}

/// Like [`load`], with the given environment.
///
/// # Errors
/// Every mistake, with its place.
pub fn load_with(sources: &Sources, environment: Environment<'_>) -> Result<Destinations, Mistakes> {
    let mut mistakes = Vec::new();
    let given = from_flags(sources, &mut mistakes);
    let flags: BTreeSet<DestinationName> = given.keys().cloned().collect();
    let contents = match &sources.file {
        Some(path) => from_file(path, &flags, environment, &mut mistakes),
        None => Some(Contents::default()),
    };
    // Which destinations a file names that was not understood, nobody knows.
    let Some(contents) = contents else { return Err(Mistakes(mistakes)) };
    let default = match default_of(sources, &contents, &flags) {
        Ok(default) => default,
        Err(mistake) => {
            mistakes.push(mistake);
            None
        }
    };
    let health_checks = health_checks(sources, &contents, &flags, &mut mistakes);
    if !mistakes.is_empty() {
        return Err(Mistakes(mistakes));
    }
    let mut destinations = Destinations { by_name: given, default, secret_headers: BTreeSet::new() };
    for Listed { destination, secret_headers } in contents.destinations {
        let name = &destination.name;
        destinations.secret_headers.extend(secret_headers.into_iter().map(|header| (name.clone(), header)));
        destinations.by_name.insert(name.clone(), Arc::new(destination));
    }
    for (name, check) in health_checks {
        if let Some(destination) = destinations.by_name.get_mut(&name) {
            Arc::make_mut(destination).health_check = Some(check);
        }
    }
    add_alerts(sources, &mut destinations)?;
    Ok(destinations)
}

fn add_alerts(sources: &Sources, destinations: &mut Destinations) -> Result<(), Mistakes> {
    let Some(url) = &sources.alert_webhook else { return Ok(()) };
    let mistake = |detail: String| Mistakes(vec![Mistake::new(ALERT_SETTING, "URL", detail)]);
    let name = alerts();
    if destinations.by_name.contains_key(&name) {
        return Err(mistake(format!("a destination is called {name} already: that name is the webhook's")));
    }
    let url = http_url::parse(url).map_err(|error| mistake(error.to_string()))?;
    let webhook = Destination { title: "Alert webhook".to_owned(), ..Destination::new(name.clone(), url) };
    destinations.by_name.insert(name, Arc::new(webhook));
    Ok(())
}

/// The destinations given by flag or variable; without these and without a file, [`DEFAULT_DESTINATION`].
fn from_flags(sources: &Sources, mistakes: &mut Vec<Mistake>) -> BTreeMap<DestinationName, Arc<Destination>> {
    let mut given = BTreeMap::new();
    let default = DEFAULT_DESTINATION.to_owned();
    let items = if sources.file.is_none() && sources.destinations.is_empty() {
        std::slice::from_ref(&default)
    } else {
        &sources.destinations
    };
    for (index, item) in items.iter().enumerate() {
        match destination_of(item) {
            Ok(destination) if given.contains_key(&destination.name) => {
                mistakes.push(Mistake::new(DESTINATION_SETTING, destination.name.as_str(), "named twice"));
            }
            Ok(destination) => {
                given.insert(destination.name.clone(), Arc::new(destination));
            }
            Err(detail) => mistakes.push(Mistake::new(DESTINATION_SETTING, format!("item {}", index + 1), detail)),
        }
    }
    given
}

/// The health checks given by flag or variable, each of a destination that has none in the file.
fn health_checks(
    sources: &Sources,
    contents: &Contents,
    flags: &BTreeSet<DestinationName>,
    mistakes: &mut Vec<Mistake>,
) -> BTreeMap<DestinationName, HealthCheck> {
    let mut given = BTreeMap::new();
    for (index, item) in sources.health_checks.iter().enumerate() {
        let checked = name_and_url(item).and_then(|(name, url)| {
            let is_known = flags.contains(&name) || contents.names.contains(&name);
            let of_file = contents.destinations.iter().find(|listed| listed.destination.name == name);
            let has_one = of_file.is_some_and(|listed| listed.destination.health_check.is_some());
            match (is_known, has_one, given.contains_key(&name)) {
                (false, ..) => Err(format!("{name} is not one of the destinations")),
                (true, true, _) => Err(format!("{name} has a health_check in the file: keep one of them")),
                (true, false, true) => Err(format!("{name}: named twice")),
                (true, false, false) => Ok((name, url)),
            }
        });
        match checked {
            Ok((name, url)) => drop(given.insert(name, file::usual_health_check(url))),
            Err(detail) => mistakes.push(Mistake::new(HEALTH_SETTING, format!("item {}", index + 1), detail)),
        }
    }
    given
}

/// Reads a destination with every other setting at its default.
fn destination_of(item: &str) -> Result<Destination, String> {
    name_and_url(item).map(|(name, url)| Destination::new(name, url))
}

/// Reads `NAME=URL`. The text is not repeated in what is wrong with it: it may hold a password.
fn name_and_url(item: &str) -> Result<(DestinationName, String), String> {
    let (name, url) = item.split_once('=').unwrap_or(("", item));
    let name: DestinationName = name.trim().parse().map_err(|_| {
        format!("write NAME=URL, with a name of 1 to {} letters, digits, '.', '_' or '-'", DestinationName::MAX_LEN)
    })?;
    let url = http_url::parse(url.trim()).map_err(|error| format!("{name}: {error}"))?;
    Ok((name, url))
}

/// What the file says; `None` if it cannot be read or is not TOML throughout.
fn from_file(
    path: &Path,
    flags: &BTreeSet<DestinationName>,
    environment: Environment<'_>,
    mistakes: &mut Vec<Mistake>,
) -> Option<Contents> {
    let text = match read_file(path) {
        Ok(text) => text,
        Err(mistake) => {
            mistakes.push(mistake);
            return None;
        }
    };
    let mut findings = Findings::default();
    let folder = path.parent().unwrap_or(Path::new(""));
    let contents = file::read(&text, &Outside { folder, environment, flags }, &mut findings);
    let saw_all = findings.saw_all();
    mistakes.extend(findings.into_mistakes(path, &text));
    if saw_all && flags.is_empty() && contents.names.is_empty() {
        let detail = "no destination is configured: add [destinations.NAME] with a url";
        mistakes.push(Mistake::new(Place::File(path.to_owned()), "destinations", detail));
    }
    saw_all.then_some(contents)
}

fn read_file(path: &Path) -> Result<String, Mistake> {
    let whole = |detail: String| Mistake::new(Place::File(path.to_owned()), "", detail);
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes));
    read.map_err(|error| whole(format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(whole(format!("is larger than {}", ByteSize(MAX_FILE))));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good_until = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes());
        let (line, column) = Lines::of(&text).position(good_until);
        Mistake::new(Place::Line { file: path.to_owned(), line, column }, "", "is not UTF-8")
    })
}

/// The default by flag, else by the file, else the only destination, else `api2`, else none.
fn default_of(
    sources: &Sources,
    contents: &Contents,
    flags: &BTreeSet<DestinationName>,
) -> Result<Option<DestinationName>, Mistake> {
    let names: BTreeSet<&DestinationName> = flags.union(&contents.names).collect();
    if let Some(wanted) = &sources.default {
        let known = names.iter().find(|name| name.as_str() == wanted);
        let unknown = || Mistake::new(DEFAULT_SETTING, "", format!("{} is not one of the destinations", shown(wanted)));
        return known.map(|name| Some((*name).clone())).ok_or_else(unknown);
    }
    let only = names.first().filter(|_| names.len() == 1);
    let usual = || names.iter().find(|name| name.as_str() == USUAL_DEFAULT);
    Ok(contents.default.as_ref().or(only.or_else(usual).copied()).cloned())
}
