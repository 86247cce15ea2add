//! The gateway under attack: good clients post all the time, and beside them come, one after the other and some at once, bad ones.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use jobs_core::job::JobId;
use jobs_core::process::clock;
use tokio::task::JoinSet;

use super::forms::{self, Due, Form};
use super::good::Good;
use super::slow::{self, Way};
use super::vitals::{self, Watch};
use super::wire::{self, Answer, Heard};
use super::{Found, Size, fuzz, hang_ups};
use crate::client::Gateway;
use crate::error::DrillError;
use crate::figure::{Figure, Goal};
use crate::invariants;
use crate::ledger::ClientLedger;
use crate::outage::observe;
use crate::percentile::percentile;
use crate::report::Progress;
use crate::trio::build::Programs;
use crate::trio::process::Process;
use crate::trio::{API2, Plan, Trio};
use crate::wait;

/// The destination of what is stored of malformed requests.
const FUZZED: &str = "fuzzed";

/// Forms that are sent at a time.
const AT_ONCE: usize = 8;

/// A refused form is answered and hung up on within this.
const SILENCE: Duration = Duration::from_secs(3);

/// What was stored is delivered, and what was open is closed, within this.
const SETTLED: Duration = Duration::from_secs(60);

/// Files that a program may have open more than before, for connections of the drill itself.
const MORE_FILES: usize = 32;

/// Memory a gateway may take while it is attacked, beyond what it had before: idle connections have their buffers.
const MORE_MEMORY_MB: f64 = 400.0;

/// # Errors
/// [`DrillError`] when the programs cannot be run, or take no connections any more.
pub(super) async fn play(
    programs: &Programs,
    size: Size,
    seed: u64,
    progress: &mut Progress,
) -> Result<Found, DrillError> {
    let destinations = [API2, FUZZED, hang_ups::DESTINATION].map(str::to_owned).to_vec();
    let mut trio = Trio::start(programs, Plan { up: true, destinations, ..Plan::default() }).await?;
    let gateway = trio.gateway().clone();
    let address: SocketAddr = gateway.address().parse().expect("the gateway's address was read as one");
    let process = trio.gateway_process().id();
    let mut found = Found::default();

    progress.say("good clients alone");
    let good = Good::start(gateway.url(), trio.folder(), seed);
    let good = good.map_err(DrillError::io("write beside the store"))?;
    tokio::time::sleep(size.alone).await;
    let files = vitals::open_files(process);
    let (memory, attacked) = (Watch::start(process), clock::instant());
    let from = attacked.checked_sub(size.alone).unwrap_or(attacked) + size.alone / 4;
    let phases = attack(&gateway, address, size, seed, progress, &mut found).await?;
    let over = clock::instant();

    progress.say("waiting for all that was stored to be delivered, and all that was open to be closed");
    let served = good.stop().await;
    let mut figure = served.figure("good clients' p99 to the 202, of what it was", (from, attacked, over), size);
    let mut since = attacked;
    for (phase, until) in phases {
        let waited = served.p99_ms(since, until);
        // Some parts may be over before a good client has come.
        if waited.is_finite() {
            figure = figure.beside(&format!("{phase} ms"), waited);
        }
        since = until;
    }
    found.figures.push(figure);
    found.jobs += served.client.acknowledged().len() as u64;
    compare(&trio, API2, &served.client, &mut found).await?;
    files_closed(process, files, &mut found).await;
    let memory = memory.stop().await;
    let more = memory.most - memory.before;
    found.figures.push(
        Figure::new("gateway memory, most above before", more, "MB", Goal::AtMost(MORE_MEMORY_MB))
            .beside("before MB", memory.before)
            .beside("after MB", memory.after),
    );
    found.violations.extend(vitals::complaints(trio.gateway_process()));
    ends_well(trio.gateway_process(), &mut found).await;
    Ok(found)
}

/// Answers with what the attack was made of, each part with its end.
async fn attack(
    gateway: &Gateway,
    address: SocketAddr,
    size: Size,
    seed: u64,
    progress: &mut Progress,
    found: &mut Found,
) -> Result<Vec<(&'static str, Instant)>, DrillError> {
    let mut phases = Vec::new();
    let mut over = |phase| phases.push((phase, clock::instant()));
    let connecting = DrillError::io("connect to the gateway");
    progress.say(&format!("slow clients and {} idle connections, behind all that follows", size.idle));
    let mut slow = JoinSet::new();
    for way in Way::ALL {
        let count = if way == Way::Silent { size.idle } else { size.slow };
        if count == 0 {
            continue;
        }
        slow.spawn(async move { (way, slow::play(address, way, count).await) });
    }

    let forms = forms::all();
    progress.say(&format!("{} forms of malformed and smuggled requests, {} times", forms.len(), size.rounds));
    for _ in 0..size.rounds {
        // Some at once: many of them are answered and then wait for a silence to end.
        let heard = forms.iter().map(|form| wire::exchange(address, &form.bytes, SILENCE));
        let heard: Vec<_> = stream::iter(heard).buffered(AT_ONCE).collect().await;
        for (form, heard) in forms.iter().zip(heard) {
            judge_form(form, &heard.map_err(DrillError::io("connect to the gateway"))?, found);
        }
    }
    over("malformed and smuggled");
    progress.say(&format!("{} requests with a little wrong in them", size.fuzz));
    let fuzzed = fuzz::play(address, size.fuzz, seed).await.map_err(connecting)?;
    found.requests += fuzzed.cases;
    for (number, answer) in &fuzzed.answers {
        found.judge(&format!("fuzzed request {number} of seed {seed}"), answer);
    }
    stored(gateway, fuzzed.answers.iter().map(|(_, answer)| answer), found).await?;

    over("with a little wrong");
    progress.say(&format!("{} clients that hang up", size.hang_ups));
    let hung_up = hang_ups::play(gateway, address, size.hang_ups, seed).await;
    let hung_up = hung_up.map_err(DrillError::io("connect to the gateway"))?;
    found.requests += size.hang_ups;
    found.jobs += hung_up.acknowledged().len() as u64;
    found.hung_up = hung_up;

    over("hanging up");
    progress.say("waiting until the slow ones are hung up on");
    while let Some(played) = slow.join_next().await {
        let (way, ended) = played.expect("being slow does not panic");
        judge_slow(way, ended.map_err(DrillError::io("connect to the gateway"))?, size, found);
    }
    over("slow ones only");
    Ok(phases)
}

fn judge_form(form: &Form, heard: &Heard, found: &mut Found) {
    found.requests += 1;
    for answer in &heard.answers {
        found.judge(form.name, answer);
    }
    let statuses = heard.statuses();
    let refused = |statuses: &[u16]| statuses.iter().all(|status| (400..500).contains(status));
    let as_due = match form.due {
        Due::Refused => heard.closed && statuses.len() <= 1 && refused(&statuses),
        Due::Answered => statuses.len() == 1 && refused(&statuses),
        Due::Accepted => statuses == [202],
        Due::Anything => statuses.len() <= 1,
    };
    if !as_due {
        let end = if heard.closed { "closed" } else { "left open" };
        found.violations.push(format!("{}: to be {:?}, answered {statuses:?} and {end}", form.name, form.due));
    }
}

fn judge_slow(way: Way, mut ended: slow::Ended, size: Size, found: &mut Found) {
    found.requests += ended.after.len() as u64;
    for answer in &ended.answers {
        found.judge(way.as_str(), answer);
    }
    // Who was never hung up on makes the worst of them none, which misses any goal.
    let never = ended.after.iter().filter(|after| after.is_nan()).count();
    let worst = if never > 0 { f64::NAN } else { percentile(&mut ended.after, 1.0) };
    let name = format!("{} hung up on, the last", way.as_str());
    let figure = Figure::new(&name, worst, "s", Goal::AtMost(way.bound(size.timed).as_secs_f64()));
    found.figures.push(figure.beside("of them", ended.after.len() as f64).beside("never", never as f64));
}

/// Every job that was acknowledged to a malformed request is in the store.
async fn stored(
    gateway: &Gateway,
    answers: impl Iterator<Item = &Answer>,
    found: &mut Found,
) -> Result<(), DrillError> {
    for id in answers.filter_map(Answer::acknowledged).collect::<Vec<JobId>>() {
        found.jobs += 1;
        if gateway.job(id).await?.is_none() {
            found.violations.push(invariants::Violation::Lost(id).to_string());
        }
    }
    Ok(())
}

/// Waits for the end of the jobs of both kinds of clients whose requests were good, and compares what was seen of them.
async fn compare(trio: &Trio, good: &str, client: &ClientLedger, found: &mut Found) -> Result<(), DrillError> {
    let hung_up = std::mem::take(&mut found.hung_up);
    for (name, client) in [(good, client), (hang_ups::DESTINATION, &hung_up)] {
        let drained = async || trio.gateway().destination(name).await.ok().filter(|view| view.waiting() == 0);
        // What has not ended by then is told by the comparison.
        drop(wait::until(SETTLED, drained).await);
        let observed = observe::all(trio.gateway(), trio.api(name), client, false).await?;
        let findings = invariants::compare(&observed);
        found.violations.extend(findings.violations.iter().map(ToString::to_string));
        if findings.delivered != findings.accepted {
            let (delivered, accepted) = (findings.delivered, findings.accepted);
            found.violations.push(format!("{name}: {delivered} of {accepted} jobs were delivered"));
        }
    }
    let counted = observe::counted(trio.gateway()).await?;
    let kept = counted.waiting + counted.succeeded + counted.dead + counted.cancelled + counted.purged;
    if counted.accepted != kept {
        found.violations.push(invariants::Violation::CountersDisagree(counted).to_string());
    }
    if counted.accepted < found.jobs {
        let (counted, acknowledged) = (counted.accepted, found.jobs);
        found.violations.push(invariants::Violation::AcceptedUncounted { counted, acknowledged }.to_string());
    }
    Ok(())
}

async fn files_closed(process: u32, before: Option<usize>, found: &mut Found) {
    let Some(before) = before else { return };
    let few = async || vitals::open_files(process).filter(|files| *files <= before + MORE_FILES);
    if wait::until(SETTLED, few).await.is_none() {
        let files = vitals::open_files(process);
        found.violations.push(format!("the gateway has {files:?} files open, and had {before} before"));
    }
}

/// After all of it, it drains as ever.
async fn ends_well(process: &mut Process, found: &mut Found) {
    process.terminate();
    match process.exited(SETTLED).await {
        Ok(status) if status.success() => {}
        Ok(status) => found.violations.push(format!("{} ended with {status}", process.name())),
        Err(error) => found.violations.push(error.to_string()),
    }
}
