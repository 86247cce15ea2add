//! The same random script on a store and on the reference model: every answer must be the same.

use std::fmt::Debug;
use std::sync::Arc;

use super::StoreUnderTest;
use super::durable::Snapshot;
use super::rig::BEGIN;
use super::script::{Script, ScriptJudge, Step, plan_for_all_dead};
use crate::job::JobId;
use crate::memory::MemoryStore;
use crate::redrive::Change;
use crate::steering::{Redriven, Resolution};
use crate::store::{JobStore, StoreError, Swept};
use crate::time::Now;

/// Steps of each script that the suite plays.
pub const STEPS: u32 = 800;

/// The seeds that the suite plays: a few, or the one that `SEED` names, to play it again.
pub fn seeds() -> Vec<u64> {
    match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().expect("SEED is a number")],
        Err(_) => (1..=6).collect(),
    }
}

/// Plays `steps` steps of the script of `seed` on an empty store and on the reference model; panics, naming the seed, at
/// the first answer that differs. The only thing not compared is the order in which a sweep found jobs. Returns the store, open:
/// one that is dropped closes its files a little later, and whoever looks at them must not meet that.
pub async fn differential<S: StoreUnderTest>(under_test: &S, seed: u64, steps: u32) -> Arc<dyn JobStore> {
    println!("to play this again: SEED={seed}");
    let mut script = Script::new(seed, BEGIN);
    let model = MemoryStore::new();
    let mut store = under_test.open(BEGIN).await;
    for number in 0..steps {
        let step = script.next(S::DURABLE);
        let (now, judge) = (script.now, script.judge());
        if matches!(step, Step::Reopen) {
            store.close().await.expect("the store closes");
            store = under_test.open(now).await;
            model.restart(now).expect("the model restarts");
            assert_eq!(store.start(), model.start(), "SEED={seed}, step {number}: starts are numbered one by one");
        }
        let real = answer(store.as_ref(), &step, judge.clone(), now, None).await;
        let expected = answer(&model, &step, judge, now, Some(&mut script)).await;
        assert!(real == expected, "SEED={seed}, step {number}: {step:#?}\nanswered {real}\nexpected {expected}");
    }
    let (real, expected) = (Snapshot::of(store.as_ref()).await, Snapshot::of(&model).await);
    assert!(real == expected, "SEED={seed}, at the end\nread {real:#?}\nexpected {expected:#?}");
    store
}

/// What a store answers to one step, as text; `script` hears of the leases.
async fn answer(
    store: &dyn JobStore,
    step: &Step,
    judge: ScriptJudge,
    now: Now,
    script: Option<&mut Script>,
) -> String {
    match step.clone() {
        Step::Enqueue(jobs) => {
            let answers = store.enqueue(jobs, now).await;
            if let (Some(script), Ok(answers)) = (script, &answers) {
                script.note_accepted(answers);
            }
            show(answers)
        }
        Step::Claim(worker, grants) => {
            let claimed = store.claim(worker, grants, now).await;
            if let (Some(script), Ok(claimed)) = (script, &claimed) {
                script.note_claimed(worker, claimed);
            }
            show(claimed)
        }
        Step::Extend(worker, holding) => show(store.extend(worker, holding, now).await),
        Step::Settle(worker, settlements) => show(store.settle(worker, settlements, Arc::new(judge), now).await),
        Step::Cancel(id, ordering_on_dead) => show(store.cancel(id, ordering_on_dead, now).await),
        Step::Redrive(id, new_key) => show(store.redrive(id, new_key, now).await),
        Step::RedriveTogether(jobs) => show(redrive_together(store, jobs, now).await),
        Step::Resolve(id) => {
            let resolution = Resolution { by: "somebody".to_owned(), reason: "by hand".to_owned(), at: now.wall };
            show(store.resolve(id, resolution).await)
        }
        Step::Sweep => show(store.sweep(Arc::new(judge), now).await.map(in_order)),
        Step::Purge(retention) => show(store.purge(retention, now).await),
        Step::PutGate(destination, gate) => show(store.put_gate(destination, gate).await),
        Step::Reopen | Step::Look => show(Snapshot::of(store).await),
    }
}

/// A whole mass redrive of dead jobs in three calls.
async fn redrive_together(store: &dyn JobStore, jobs: Vec<JobId>, now: Now) -> Result<Option<Redriven>, StoreError> {
    let number = store.start_redrive(plan_for_all_dead(), "somebody".to_owned(), now).await?.number;
    store.change_redrive(number, Change::Counted { to: 0, found: 0, end: true }, now).await?;
    store.redrive_step(number, jobs, u64::from(number), true, now).await
}

fn in_order(mut swept: Swept) -> Swept {
    swept.lapsed.sort_by_key(|(key, ..)| *key);
    swept.expired.sort_by_key(|job| job.seq);
    swept
}

fn show(answer: impl Debug) -> String {
    format!("{answer:#?}")
}
