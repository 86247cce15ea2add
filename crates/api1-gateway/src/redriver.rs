//! Carries out mass redrives: looks what each is to do next, and has it done, a short step at a time.
//!
//! What was done is in the store before the next step is thought of, so that another gateway process goes on where this one
//! ended, by accident or not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jobs_core::redrive::{Change, MassRedrive, Pace, STEP, Step};
use jobs_core::steering::{Action, MASS_REDRIVES};
use jobs_core::store::StoreError;

use crate::app::App;
use crate::background::{goes_on, report};

/// Between two steps that redrive: five thousand jobs a second, and room for others in between.
const PAUSE: Duration = Duration::from_millis(100);
/// Between two steps that only count.
const COUNTING: Duration = Duration::from_millis(5);
/// After a failure of the store.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// The principal of what is done because a rule says so.
const THE_RULE: &str = "rule";

/// Does so until the process drains.
pub(crate) async fn run(app: Arc<App>) {
    let mut paces: BTreeMap<u32, Pace> = BTreeMap::new();
    loop {
        let active = match app.store.mass_redrives(MASS_REDRIVES).await {
            Ok(all) => all.into_iter().filter(MassRedrive::is_active).map(|redrive| redrive.number).collect(),
            Err(error) => {
                report("read the mass redrives", &error);
                if !goes_on(&app, AFTER_FAILURE).await {
                    return;
                }
                continue;
            }
        };
        paces = take_along(paces, active);
        if paces.is_empty() {
            tokio::select! {
                () = app.redrives.notified() => continue,
                () = app.shutdown.wait() => return,
            }
        }
        if !work(&app, &mut paces).await {
            return;
        }
    }
}

/// The paces of `active`, those there are as they are.
fn take_along(before: BTreeMap<u32, Pace>, active: Vec<u32>) -> BTreeMap<u32, Pace> {
    active.into_iter().map(|number| (number, before.get(&number).copied().unwrap_or_default())).collect()
}

/// Steps of all of them in turn, until one of them rests or something else is asked for. False once the process drains.
async fn work(app: &Arc<App>, paces: &mut BTreeMap<u32, Pace>) -> bool {
    loop {
        let mut pause = PAUSE;
        for (number, pace) in paces.iter_mut() {
            match step(app, *number, pace).await {
                Ok(Some(wanted)) => pause = pause.min(wanted),
                Ok(None) => return goes_on(app, Duration::ZERO).await,
                Err(error) => {
                    report("go on with a mass redrive", &error);
                    return goes_on(app, AFTER_FAILURE).await;
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = app.redrives.notified() => return true,
            () = app.shutdown.wait() => return false,
        }
    }
}

/// One step of one of them, and how long to pause after it; `None`: it rests.
async fn step(app: &Arc<App>, number: u32, pace: &mut Pace) -> Result<Option<Duration>, StoreError> {
    let Some(redrive) = app.store.mass_redrive(number).await? else { return Ok(None) };
    match redrive.next() {
        Step::Nothing => return Ok(None),
        Step::Wait => {}
        Step::Change(change) => by_rule(app, number, change).await?,
        Step::Count => {
            let page = app.store.find(redrive.plan.filter.clone(), redrive.counted_to, STEP).await?;
            let to = page.next.unwrap_or(redrive.counted_to);
            let counted = Change::Counted { to, found: page.jobs.len() as u64, end: page.next.is_none() };
            app.store.change_redrive(number, counted, app.clock.now()).await?;
            return Ok(Some(COUNTING));
        }
        Step::Redrive(most) => redrive_some(app, &redrive, most, pace).await?,
    }
    Ok(Some(PAUSE))
}

async fn redrive_some(app: &Arc<App>, redrive: &MassRedrive, most: u64, pace: &mut Pace) -> Result<(), StoreError> {
    let wanted = most.min(u64::from(STEP));
    let allowed = pace.allow(redrive.plan.per_second, wanted, app.clock.now().mono);
    let Some(limit) = u32::try_from(allowed).ok().filter(|limit| *limit > 0) else { return Ok(()) };
    let page = app.store.find(redrive.plan.filter.clone(), redrive.redriven_to, limit).await?;
    let last = page.jobs.last().map_or(redrive.redriven_to, |job| job.seq);
    let (to, end) = (page.next.unwrap_or(last), page.next.is_none());
    let ids = page.jobs.iter().map(|job| job.id).collect();
    let step = app.store.redrive_step(redrive.number, ids, to, end, app.clock.now()).await?;
    let Some(step) = step else { return Ok(()) };
    pace.spend(step.jobs.len() as u64);
    {
        let mut dispatcher = app.dispatcher();
        step.jobs.iter().for_each(|job| dispatcher.job_changed(job));
    }
    app.work.notify_waiters();
    if end {
        let MassRedrive { number, redriven, skipped, .. } = step.redrive;
        log::info!(redrive = number, redriven, skipped; "a mass redrive has come to its end");
    }
    Ok(())
}

async fn by_rule(app: &Arc<App>, number: u32, change: Change) -> Result<(), StoreError> {
    let reason = match &change {
        Change::Stop(stop) => Some(stop.reason.clone()),
        Change::CanaryPassed | Change::Counted { .. } | Change::Resume => None,
    };
    let answer = app.store.change_redrive(number, change, app.clock.now()).await?;
    if let (Some((Ok(()), _)), Some(reason)) = (answer, reason) {
        log::warn!(redrive = number, reason; "a mass redrive has stopped: too many of its jobs fail again");
        app.note(THE_RULE, Action::StopMassRedrive, number, reason).await;
    }
    Ok(())
}
