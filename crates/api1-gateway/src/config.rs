//! The gateway's settings: flags, variables and the destinations file, checked as one.
//!
//! [`Config::read`] answers a whole configuration or every mistake in it, those of the destinations file with their lines.
//! Destinations alone can be read again while the gateway runs: [`destinations::load`] with [`Config::sources`]. Nothing here
//! opens the store, listens, or reacts to a signal.

pub mod destinations;
mod file;
pub mod flags;
pub mod http_url;
pub mod mistakes;
mod print;
#[cfg(test)]
mod properties;
mod section;
pub mod size;
pub mod store_url;
mod value;

use std::convert::Infallible;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use jobs_core::process::duration;
use jobs_core::process::logging::LogSettings;
use jobs_core::process::secret::Secret;
use jobs_core::process::settings::{BadSettings, Effective, Settings};
use jobs_core::store::Retention;

use crate::app::Limits;
use destinations::{Destinations, Sources};
use flags::Flags;
use mistakes::Place;
use size::ByteSize;
use store_url::{NotAStore, StoreUrl};

/// Prefix of the gateway's environment variables.
pub const PREFIX: &str = "API1_";

const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
const DEFAULT_STORE: &str = "sqlite:data/jobs.db";
/// A payload is in memory several times on its way: received, stored, leased.
const DEFAULT_MAX_BODY: ByteSize = ByteSize(1 << 20);
/// Largest `--max-body`: in a worker's claim JSON can swell a payload sixfold, and a worker reads no more than 64 MiB.
const LARGEST_MAX_BODY: ByteSize = ByteSize(10 << 20);
/// Below the 30 s that Kubernetes and the 30 s that our compose file wait before they kill.
const DEFAULT_GRACE: Duration = Duration::from_secs(25);
/// Whoever stops a gateway wants it stopped within the hour.
const LONGEST_GRACE: Duration = Duration::from_secs(3_600);

/// Everything an operator can say to a gateway. `Debug` and `Display` show no secrets.
#[derive(Debug, Clone)]
pub struct Config {
    pub listen: SocketAddr,
    pub store: StoreUrl,
    /// Where the destinations came from, to load them again.
    pub sources: Sources,
    pub destinations: Destinations,
    /// Keys by role; a role without any is open to everybody.
    pub client_keys: Vec<Secret>,
    pub worker_tokens: Vec<Secret>,
    pub operator_keys: Vec<Secret>,
    /// Commits are not synced, and what is acknowledged is lost with the power: only for a drill that is to see that.
    pub unsynced: bool,
    /// Free bytes of disk below which new jobs are refused.
    pub min_free: u64,
    /// Largest payload, in bytes.
    pub max_body: usize,
    /// Jobs a second accepted from each client; `None`: as many as the store takes.
    pub max_accept_rate: Option<NonZeroU32>,
    /// The folder for backups, which exists; `None`: none are made.
    pub backup_dir: Option<PathBuf>,
    /// An alarm is raised when due work has not been handed out for so long.
    pub stalled_after: Duration,
    /// Callbacks tell also that a job is still being tried, after so long.
    pub still_trying_after: Option<Duration>,
    /// The alert webhook is told of a job that has been due for so long.
    pub alert_oldest_due: Duration,
    /// How long a stop waits for open requests.
    pub grace: Duration,
    pub retention: Retention,
    pub log: LogSettings,
    effective: Effective,
}

impl Config {
    /// Reads flags, the environment in `settings`, and the files these name.
    ///
    /// # Errors
    /// [`BadSettings`] with every mistake of all of them.
    pub fn read(flags: Flags, mut settings: Settings) -> Result<Config, BadSettings> {
        let s = &mut settings;
        let listen = s.parsed("--listen", "API1_LISTEN", flags.listen, DEFAULT_LISTEN);
        let store = store(s, flags.store);
        let sources = Sources {
            file: s.optional::<String>("--config", "API1_CONFIG", flags.config).map(PathBuf::from),
            destinations: s.list("--destination", "API1_DESTINATIONS", flags.destinations, &[]),
            health_checks: s.list("--health-check", "API1_HEALTH_CHECKS", flags.health_checks, &[]),
            default: s.optional("--default-destination", "API1_DEFAULT_DESTINATION", flags.default_destination),
            alert_webhook: s.optional("--alert-webhook", "API1_ALERT_WEBHOOK", flags.alert_webhook),
        };
        let destinations = destinations(s, &sources);
        let client_keys = keys(s, "API1_CLIENT_KEYS");
        let worker_tokens = keys(s, "API1_WORKER_TOKENS");
        let operator_keys = keys(s, "API1_OPERATOR_KEYS");
        let usual = ByteSize(Limits::default().min_free);
        let ByteSize(min_free) = s.parsed("--min-free", "API1_MIN_FREE", flags.min_free, usual);
        let max_body = max_body(s, flags.max_body);
        let max_accept_rate = s.optional("--max-accept-rate", "API1_MAX_ACCEPT_RATE", flags.max_accept_rate);
        let backup_dir = backup_dir(s, flags.backup_dir);
        let (stalled_after, alert_oldest_due) = alarms(s, flags.stalled_after, flags.alert_oldest_due);
        let still_trying_after = still_trying_after(s, flags.still_trying_after);
        let grace = bounded(s, "--grace", "API1_GRACE", flags.grace, DEFAULT_GRACE, LONGEST_GRACE);
        let usual = Retention::default();
        let longest = value::MAX_SPAN;
        let retention = Retention {
            succeeded: bounded(
                s,
                "--retain-succeeded",
                "API1_RETAIN_SUCCEEDED",
                flags.retain_succeeded,
                usual.succeeded,
                longest,
            ),
            dead: bounded(s, "--retain-dead", "API1_RETAIN_DEAD", flags.retain_dead, usual.dead, longest),
            keys: usual.keys,
        };
        let log = LogSettings::read(s);
        let effective = settings.finish()?;
        Ok(Config {
            listen,
            store,
            sources,
            destinations: destinations.expect("destinations with mistakes are bad settings"),
            client_keys,
            worker_tokens,
            operator_keys,
            unsynced: flags.unsynced,
            min_free,
            max_body,
            max_accept_rate,
            backup_dir,
            stalled_after,
            still_trying_after,
            alert_oldest_due,
            grace,
            retention,
            log,
            effective,
        })
    }
}

impl fmt::Display for Config {
    /// For `--print-config`: a line `NAME = value` for each setting, then the destinations as TOML.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n# destinations in effect\n{}", self.effective, self.destinations)
    }
}

/// Destinations; `None` after their mistakes became problems of `settings`.
fn destinations(settings: &mut Settings, sources: &Sources) -> Option<Destinations> {
    let mistakes = match destinations::load(sources) {
        Ok(destinations) => return Some(destinations),
        Err(mistakes) => mistakes.0,
    };
    for mistake in mistakes {
        match mistake.place {
            Place::Setting { flag, var } => settings.problem(flag, var, &mistake.message()),
            Place::File(_) | Place::Line { .. } => settings.problem("--config", "API1_CONFIG", &mistake.to_string()),
        }
    }
    None
}

/// A text that is read as a store later: what is wrong with it is told without repeating a URL with a password in it.
struct StoreText(Result<StoreUrl, NotAStore>);

impl FromStr for StoreText {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(StoreText(text.parse()))
    }
}

impl fmt::Display for StoreText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |store| store.fmt(f))
    }
}

fn store(settings: &mut Settings, given: Option<String>) -> StoreUrl {
    let default = StoreText(DEFAULT_STORE.parse());
    let StoreText(store) = settings.parsed("--store", "API1_STORE", given, default);
    store.unwrap_or_else(|error| {
        settings.problem("--store", "API1_STORE", &error.to_string());
        StoreUrl::Memory
    })
}

/// Keys that can travel in an `Authorization` header.
fn keys(settings: &mut Settings, var: &'static str) -> Vec<Secret> {
    let keys = settings.secret_list(var);
    let unfit = keys.iter().position(|key| !key.expose().bytes().all(|byte| byte.is_ascii_graphic()));
    if let Some(index) = unfit {
        let detail = format!("key {} has a character that cannot travel in an Authorization header", index + 1);
        settings.problem("", var, &detail);
    }
    keys
}

fn max_body(settings: &mut Settings, given: Option<String>) -> usize {
    let ByteSize(bytes) = settings.parsed("--max-body", "API1_MAX_BODY", given, DEFAULT_MAX_BODY);
    if !(1..=LARGEST_MAX_BODY.0).contains(&bytes) {
        settings.problem("--max-body", "API1_MAX_BODY", &format!("must be 1 to {LARGEST_MAX_BODY}"));
    }
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// A folder that is missing is told at start rather than when a backup is wanted.
fn backup_dir(settings: &mut Settings, given: Option<String>) -> Option<PathBuf> {
    let folder = settings.optional::<String>("--backup-dir", "API1_BACKUP_DIR", given).map(PathBuf::from)?;
    if !folder.is_dir() {
        settings.problem("--backup-dir", "API1_BACKUP_DIR", &format!("{folder:?} is not a folder"));
    }
    Some(folder)
}

/// When an alarm is raised: work is not handed out, a job has long been due.
fn alarms(settings: &mut Settings, stalled: Option<String>, oldest_due: Option<String>) -> (Duration, Duration) {
    let usual = Limits::default();
    let longest = value::MAX_SPAN;
    let (flag, var) = ("--stalled-after", "API1_STALLED_AFTER");
    let stalled_after = bounded(settings, flag, var, stalled, usual.stalled_after, longest);
    let (flag, var) = ("--alert-oldest-due", "API1_ALERT_OLDEST_DUE");
    (stalled_after, bounded(settings, flag, var, oldest_due, usual.alert_oldest_due, longest))
}

fn still_trying_after(settings: &mut Settings, given: Option<String>) -> Option<Duration> {
    let (flag, var) = ("--still-trying-after", "API1_STILL_TRYING_AFTER");
    let text = settings.optional::<String>(flag, var, given)?;
    match duration::parse(&text) {
        Ok(after) if after <= value::MAX_SPAN => Some(after),
        Ok(_) => {
            settings.problem(flag, var, &format!("must be at most {}", duration::show(value::MAX_SPAN)));
            None
        }
        Err(error) => {
            settings.problem(flag, var, &error.to_string());
            None
        }
    }
}

fn bounded(
    settings: &mut Settings,
    flag: &str,
    var: &'static str,
    given: Option<String>,
    default: Duration,
    longest: Duration,
) -> Duration {
    let duration = settings.duration(flag, var, given, default);
    if duration > longest {
        settings.problem(flag, var, &format!("must be at most {}", duration::show(longest)));
    }
    duration
}
