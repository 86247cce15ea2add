//! Plays one scenario: well, in trouble, well again, and to the end of all jobs.

use std::time::Duration;

use jobs_core::process::clock;
use jobs_core::time::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Size;
use super::catalogue::{Scenario, Trouble};
use super::measure::{self, Seen};
use super::relay::{POISON, Passage, Relay};
use super::report::ScenarioReport;
use crate::client::{Api2, Gateway, LedgerView};
use crate::error::DrillError;
use crate::ledger::{self, ClientLedger, Intent};
use crate::steady::Steady;
use crate::trio::build::Programs;
use crate::trio::{API2, Plan, Trio};
use crate::wait;

/// The destination that is well all along.
const NEIGHBOUR: &str = "neighbour";

const WORKERS: usize = 3;

/// The gentle pace at which both are called: enough that a recovery is found by fresh jobs.
const PER_SECOND: f64 = 20.0;

/// Delivered to each before anything goes wrong.
const WARM: u64 = 20;

/// Short, so that calls that hang are answers soon.
const SETTINGS: &str = r#"attempt_timeout = "1s""#;

/// How long both are called after the end of the trouble.
const AFTERWARDS: Duration = Duration::from_secs(1);

/// Between two looks at the gate: an outage of a drill lasts much longer.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Within this all jobs have ended, or something is stuck.
const END_LIMIT: Duration = Duration::from_secs(120);

/// An outage of the gate, as the gateway told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Opened {
    pub(super) since: Timestamp,
    pub(super) reason: String,
}

/// # Errors
/// [`DrillError`]
pub(super) async fn play(programs: &Programs, scenario: &Scenario, size: Size) -> Result<ScenarioReport, DrillError> {
    let mut relay = Relay::listen().await.map_err(DrillError::io("listen for the relay"))?;
    let plan = Plan {
        workers: WORKERS,
        destinations: vec![API2.to_owned(), NEIGHBOUR.to_owned()],
        up: true,
        health_checks: scenario.health_check,
        destination_settings: SETTINGS.to_owned(),
        by_way_of: if needs_relay(scenario) { vec![(API2.to_owned(), relay.address())] } else { Vec::new() },
        ..Plan::default()
    };
    let mut trio = Trio::start(programs, plan).await?;
    relay.lead_to(trio.api2().address());
    let (gateway, api2) = (trio.gateway().clone(), trio.api2().clone());
    set(&api2, scenario.before).await?;

    let steady = [API2, NEIGHBOUR].map(|name| Steady::start(&gateway, name, PER_SECOND, 1));
    for name in [API2, NEIGHBOUR] {
        delivered(trio.api(name), WARM).await?;
    }
    let watch = Watch::start(&gateway);
    let mut lasts = size.lasts;
    match scenario.trouble {
        Trouble::Weather(weather) => set(&api2, weather).await?,
        Trouble::BlackHole => relay.set(Passage::Hole),
        Trouble::Flapping => {
            lasts = 4 * size.flap;
            let ms = u64::try_from(size.flap.as_millis()).unwrap_or(u64::MAX);
            api2.set_weather(&serde_json::json!({"mode": "flapping", "up_ms": ms, "down_ms": ms})).await?;
        }
        Trouble::OneWorkerCutOff => relay.set(Passage::ClosedTo(trio.workers()[0].id())),
        Trouble::PoisonJob => {}
    }
    let (began_at, began) = (clock::wall(), clock::instant());
    let mut client = backlog(&gateway, scenario, size).await;
    tokio::time::sleep(lasts.saturating_sub(began.elapsed())).await;

    let before = api2.ledger().await?;
    relay.set(Passage::Open);
    set(&api2, scenario.after).await?;
    let back = api2.ledger().await?.since_weather.set_at;
    tokio::time::sleep(AFTERWARDS).await;
    let [ours, neighbours] = steady;
    client.merge(ours.stop().await);
    let neighbours = neighbours.stop().await;
    // What has not ended by then is told by the comparison.
    let ended = wait::until(END_LIMIT, async || gateway.stats().await.ok().filter(|stats| stats.waiting() == 0));
    drop(ended.await);

    let opened = watch.stop().await;
    let refused = refused_since(&before, &api2.ledger().await?);
    let seen = Seen { client: &client, began: began_at, back, opened: &opened, refused_share: refused };
    let ours = measure::measure(&gateway, &api2, API2, &seen).await?;
    let seen = Seen { client: &neighbours, began: began_at, back, opened: &[], refused_share: 0.0 };
    let neighbour = measure::measure(&gateway, trio.api(NEIGHBOUR), NEIGHBOUR, &seen).await?;
    Ok(ScenarioReport::new(scenario, size, ours, neighbour))
}

fn needs_relay(scenario: &Scenario) -> bool {
    match scenario.trouble {
        Trouble::BlackHole | Trouble::OneWorkerCutOff | Trouble::PoisonJob => true,
        Trouble::Weather(_) | Trouble::Flapping => false,
    }
}

async fn set(api2: &Api2, weather: &str) -> Result<(), DrillError> {
    let weather = serde_json::from_str(weather).expect("the catalogue's weathers are JSON");
    Ok(api2.set_weather(&weather).await?)
}

/// Waits until so many were delivered.
async fn delivered(api: &Api2, count: u64) -> Result<(), DrillError> {
    let found = wait::until(END_LIMIT, async || api.ledger().await.ok().filter(|ledger| ledger.accepted >= count));
    found.await.map(drop).ok_or_else(|| DrillError::never("the delivery of the first jobs", END_LIMIT))
}

/// Posts the jobs that wait for the end of the trouble.
async fn backlog(gateway: &Gateway, scenario: &Scenario, size: Size) -> ClientLedger {
    let run = clock::new_uuid().simple().to_string();
    let intents = (0..size.jobs).map(|number| Intent::numbered(&run, number, 1));
    let mut client = ledger::post_all(gateway, API2, intents.collect(), END_LIMIT).await;
    if scenario.trouble == Trouble::PoisonJob {
        let poison = Intent { key: format!("poison-{run}"), body: format!("{{{POISON}}}") };
        client.note(ledger::post_limited(gateway, API2, &poison, 3, END_LIMIT).await);
    }
    client
}

fn refused_since(before: &LedgerView, after: &LedgerView) -> f64 {
    let refused = after.with_status(503).saturating_sub(before.with_status(503));
    refused as f64 / after.requests.saturating_sub(before.requests).max(1) as f64
}

/// Looks at api2's gate all the time, as an operator's page would.
struct Watch {
    running: watch::Sender<()>,
    looking: JoinHandle<Vec<Opened>>,
}

impl Watch {
    fn start(gateway: &Gateway) -> Self {
        let (running, mut over) = watch::channel(());
        let gateway = gateway.clone();
        let looking = tokio::spawn(async move {
            let mut opened: Vec<Opened> = Vec::new();
            loop {
                if let Ok(view) = gateway.destination(API2).await
                    && view.state == "open"
                    && let (Some(since), Some(reason)) = (view.since, view.reason)
                    && opened.last().is_none_or(|last| last.since != since)
                {
                    opened.push(Opened { since, reason });
                }
                tokio::select! {
                    _ = over.changed() => return opened,
                    () = tokio::time::sleep(LOOK_INTERVAL) => {}
                }
            }
        });
        Watch { running, looking }
    }

    async fn stop(self) -> Vec<Opened> {
        drop(self.running);
        self.looking.await.expect("looking does not panic")
    }
}
