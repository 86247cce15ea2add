//! What all requests of a gateway share: the store, the dispatcher, the settings, and who waits for what.
//!
//! The dispatcher sits behind a plain mutex that is held for moments and never across an await; the destinations are a
//! snapshot that a reload replaces whole, so that a request sees either the old settings or the new ones.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use jobs_core::destination::Destination;
use jobs_core::dispatch::Dispatcher;
use jobs_core::job::DestinationName;
use jobs_core::process::clock::Clock;
use jobs_core::process::shutdown::Shutdown;
use jobs_core::store::{JobStore, Judge, Retention, StoreError};
use tokio::sync::Notify;

use crate::accept_rate::AcceptRate;
use crate::alerts::Alerts;
use crate::auth::Keys;
use crate::body::Bounds;
use crate::bulk::Bulk;
use crate::config::{Config, destinations};
use crate::connection::Deadlines;
use crate::drain_rate::DrainRates;
use crate::events::Events;
use crate::gather::Gatherer;
use crate::history::History;
use crate::metrics::Metrics;
use crate::problem::{Code, Problem};
use crate::waiters::Waiters;
use crate::watchdog::Watchdog;

/// What the gateway's HTTP side needs of its settings. Not `Debug`: destinations hold secret headers.
pub struct Setup {
    pub destinations: BTreeMap<DestinationName, Arc<Destination>>,
    /// Where `POST /api1/process` sends; `None`: callers must name the destination.
    pub default_destination: Option<DestinationName>,
    pub keys: Keys,
    pub limits: Limits,
}

impl From<&Config> for Setup {
    fn from(config: &Config) -> Self {
        let usual = Limits::default();
        Setup {
            destinations: config.destinations.by_name.clone(),
            default_destination: config.destinations.default.clone(),
            keys: Keys::new(&config.client_keys, &config.worker_tokens, &config.operator_keys),
            limits: Limits {
                payload: Bounds { max_bytes: config.max_body, ..usual.payload },
                connection: usual.connection,
                min_free: config.min_free,
                grace: config.grace,
                retention: config.retention,
                max_accept_rate: config.max_accept_rate,
                backup_dir: config.backup_dir.clone(),
                stalled_after: config.stalled_after,
                still_trying_after: config.still_trying_after,
                alerts: config.sources.alert_webhook.is_some().then(destinations::alerts),
                alert_oldest_due: config.alert_oldest_due,
            },
        }
    }
}

/// Bounds an operator may set.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Of one payload.
    pub payload: Bounds,
    /// Of a client's connection.
    pub connection: Deadlines,
    /// Bytes free on the store's disk below which nothing more is accepted.
    pub min_free: u64,
    /// How long requests in progress may take to end once the process was told to.
    pub grace: Duration,
    pub retention: Retention,
    /// Jobs a second accepted from each client; `None`: as many as the store takes.
    pub max_accept_rate: Option<NonZeroU32>,
    /// Where backups are made; `None`: nowhere.
    pub backup_dir: Option<PathBuf>,
    /// An alarm is raised when due work has not been handed out for so long.
    pub stalled_after: Duration,
    /// Callbacks tell also that a job is still being tried, after so long; `None`: they do not.
    pub still_trying_after: Option<Duration>,
    /// The destination that is told of trouble.
    pub alerts: Option<DestinationName>,
    /// It is told of a job that has been due for so long.
    pub alert_oldest_due: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            payload: Bounds { max_bytes: 1024 * 1024, deadline: Duration::from_secs(30) },
            connection: Deadlines {
                head: Duration::from_secs(10),
                // A little longer than the server keeps a silent connection, which is its own business.
                idle: Duration::from_secs(90),
                unread: Duration::from_secs(30),
            },
            // Four times the largest write-ahead log, so that whatever is stored can still be settled.
            min_free: 256 * 1024 * 1024,
            grace: Duration::from_secs(25),
            retention: Retention::default(),
            max_accept_rate: None,
            backup_dir: None,
            stalled_after: Duration::from_secs(60),
            still_trying_after: None,
            alerts: None,
            alert_oldest_due: Duration::from_secs(900),
        }
    }
}

/// The state shared by all requests and background tasks.
pub struct App {
    pub(crate) store: Arc<dyn JobStore>,
    dispatcher: Arc<Mutex<Dispatcher>>,
    catalog: RwLock<Arc<Catalog>>,
    pub(crate) keys: Keys,
    pub(crate) limits: Limits,
    pub(crate) accept_rate: AcceptRate,
    pub(crate) clock: Clock,
    pub(crate) shutdown: Shutdown,
    /// Tells parked claims that there may be something for them.
    pub(crate) work: Notify,
    pub(crate) waiters: Waiters,
    pub(crate) gatherer: Gatherer,
    pub(crate) drain_rates: DrainRates,
    pub(crate) metrics: Metrics,
    pub(crate) watchdog: Watchdog,
    pub(crate) alerts: Alerts,
    /// What charts show of the recent past.
    pub(crate) history: History,
    /// Tells whoever listens what happens.
    pub(crate) events: Events,
    /// Verbs that are being done to many jobs.
    pub(crate) bulk: Bulk,
    /// Tells the redriver that a mass redrive has been asked for, or changed.
    pub(crate) redrives: Notify,
    /// Set in the background, so that no request asks the disk.
    pub(crate) low_space: AtomicBool,
    pub(crate) parked: AtomicU64,
    /// Changes of gates reach the disk in the order in which they took effect.
    pub(crate) gate_writes: tokio::sync::Mutex<()>,
    /// Outcomes that the store has not taken yet.
    pub(crate) settling: AtomicUsize,
}

impl App {
    /// Takes stock of what `store` holds: leases in flight, gates, destinations with jobs. `clock`: the one the store was opened by.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn new(
        setup: Setup,
        store: Arc<dyn JobStore>,
        clock: Clock,
        shutdown: Shutdown,
    ) -> Result<Arc<Self>, StoreError> {
        let mut dispatcher = Dispatcher::new(store.start());
        dispatcher.configure(setup.destinations.clone(), clock.now());
        let with_jobs = store.stats().await?.destinations.into_keys();
        dispatcher.restore(&store.leases().await?, store.gates().await?, with_jobs, clock.now());
        Ok(Arc::new(App {
            store,
            dispatcher: Arc::new(Mutex::new(dispatcher)),
            catalog: RwLock::new(Arc::new(Catalog::new(setup.destinations, setup.default_destination))),
            keys: setup.keys,
            accept_rate: AcceptRate::new(setup.limits.max_accept_rate),
            limits: setup.limits,
            clock,
            shutdown,
            work: Notify::new(),
            waiters: Waiters::default(),
            gatherer: Gatherer::default(),
            drain_rates: DrainRates::default(),
            bulk: Bulk::default(),
            metrics: Metrics::new(),
            watchdog: Watchdog::default(),
            alerts: Alerts::default(),
            history: History::default(),
            events: Events::default(),
            redrives: Notify::new(),
            low_space: AtomicBool::new(false),
            parked: AtomicU64::new(0),
            gate_writes: tokio::sync::Mutex::new(()),
            settling: AtomicUsize::new(0),
        }))
    }

    /// Other destinations from now on. One that is no longer among them is held, with its jobs.
    pub fn reload(&self, destinations: BTreeMap<DestinationName, Arc<Destination>>, default: Option<DestinationName>) {
        self.dispatcher().configure(destinations.clone(), self.clock.now());
        let catalog = Arc::new(Catalog::new(destinations, default));
        *self.catalog.write().unwrap_or_else(PoisonError::into_inner) = catalog;
        self.work.notify_waiters();
    }

    pub(crate) fn dispatcher(&self) -> MutexGuard<'_, Dispatcher> {
        // Soft state that every method leaves usable, also after a panic elsewhere.
        self.dispatcher.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn judge(&self) -> Arc<dyn Judge> {
        Arc::<Mutex<Dispatcher>>::clone(&self.dispatcher)
    }

    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Refuses more jobs while the disk is nearly full, so that what is stored can still be settled.
    pub(crate) fn check_space(&self) -> Result<(), Problem> {
        if self.low_space.load(Ordering::Relaxed) {
            return Err(Problem::new(Code::NoSpace, "stored jobs are still worked off; ask again later"));
        }
        Ok(())
    }

    pub(crate) fn check_not_draining(&self) -> Result<(), Problem> {
        if self.shutdown.is_triggered() {
            return Err(Problem::new(Code::Draining, "ask again, or ask another gateway"));
        }
        Ok(())
    }
}

/// The configured destinations, as requests see them.
pub(crate) struct Catalog {
    listed: BTreeMap<DestinationName, Listed>,
    default: Option<DestinationName>,
}

/// A configured destination, with what its callers are told.
pub(crate) struct Listed {
    pub(crate) settings: Arc<Destination>,
    /// The end of the answer to an accepted request, from behind its state's name on.
    pub(crate) receipt: String,
}

impl Catalog {
    fn new(destinations: BTreeMap<DestinationName, Arc<Destination>>, default: Option<DestinationName>) -> Self {
        let listed = |(name, settings): (_, Arc<Destination>)| (name, Listed { receipt: receipt(&settings), settings });
        Catalog { listed: destinations.into_iter().map(listed).collect(), default }
    }

    pub(crate) fn find(&self, name: &str) -> Result<&Listed, Problem> {
        let unknown = || Problem::new(Code::UnknownDestination, format!("{name:?} is not configured here"));
        self.listed.get(name).ok_or_else(unknown)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Destination>> {
        self.listed.values().map(|listed| &listed.settings)
    }

    pub(crate) fn find_default(&self) -> Result<&Listed, Problem> {
        match &self.default {
            Some(name) => self.find(name.as_str()),
            None => {
                Err(Problem::new(Code::UnknownDestination, "there is no default destination: name one in the path"))
            }
        }
    }
}

fn receipt(destination: &Destination) -> String {
    let message = format!("Request received. Will process when {} recovers.", destination.title);
    let message = serde_json::Value::String(message);
    format!(r#"","destination":"{}","message":{message}}}"#, destination.name)
}
