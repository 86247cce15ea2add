//! What the tests share: the programs, built once, and waiting for what a job should become.

use std::process::{Command, Output as ProcessOutput};
use std::sync::OnceLock;
use std::time::Duration;

use drills::client::{Accepted, Gateway, JobView};
use drills::ledger::{self, ClientLedger, Intent};
use drills::trio::build::{Output, Programs};
use drills::trio::{API2, Plan, Trio};
use drills::wait;
use jobs_core::job::JobId;
use tokio::task::JoinSet;

/// Far above what anything here takes: a test that waits so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// How many clients post at a time.
const POSTERS: u64 = 8;

/// The programs as they are now: `cargo test -p drills` alone would not build them.
pub(crate) fn programs() -> &'static Programs {
    static PROGRAMS: OnceLock<Programs> = OnceLock::new();
    PROGRAMS.get_or_init(|| Programs::build(Output::Kept).unwrap_or_else(|error| panic!("{error}")))
}

pub(crate) async fn start(plan: Plan) -> Trio {
    Trio::start(programs(), plan).await.unwrap_or_else(|error| panic!("{error}"))
}

/// Posts one job and has its id.
pub(crate) async fn post(gateway: &Gateway, destination: &str, body: &str) -> JobId {
    let answer = gateway.process(destination, &[], body).await.unwrap();
    assert_eq!(answer.status, 202, "{}", answer.body);
    answer.json::<Accepted>().unwrap().id
}

/// Posts `count` jobs for API 2, several at a time, each until it is acknowledged.
pub(crate) fn post_many(gateway: &Gateway, count: u64) -> JoinSet<ClientLedger> {
    let mut posters = JoinSet::new();
    for poster in 0..POSTERS {
        let gateway = gateway.clone();
        posters.spawn(async move {
            let mut client = ClientLedger::default();
            for number in (poster..count).step_by(POSTERS as usize) {
                client.note(ledger::post(&gateway, API2, &Intent::numbered("test", number, 1), PATIENCE).await);
            }
            client
        });
    }
    posters
}

/// The ledger of all posters, once they are done.
pub(crate) async fn all_posted(posters: JoinSet<ClientLedger>) -> ClientLedger {
    let mut all = ClientLedger::default();
    for client in posters.join_all().await {
        all.merge(client);
    }
    all
}

/// Waits until the job is as `wanted`.
pub(crate) async fn job_becomes(gateway: &Gateway, id: JobId, wanted: impl Fn(&JobView) -> bool) -> JobView {
    let mut last = None;
    let found = wait::until(PATIENCE, async || {
        last = gateway.job(id).await.ok().flatten();
        last.clone().filter(|job| wanted(job))
    });
    let found = found.await;
    found.unwrap_or_else(|| panic!("the job did not become what was wanted; it is {last:?}"))
}

/// Waits until nothing waits and nothing is in a worker's hands.
pub(crate) async fn all_ended(gateway: &Gateway) {
    let ended = wait::until(PATIENCE, async || gateway.stats().await.ok().filter(|stats| stats.waiting() == 0)).await;
    assert!(ended.is_some(), "jobs still wait: {:?}", gateway.stats().await);
}

/// Our own programs as a person would run them from a folder of their own. Without cargo, they take each other as they are built.
pub(crate) fn command(package: &str) -> Command {
    let mut command = Command::new(programs().path(package));
    command.env_remove("CARGO");
    command
}

/// Runs a program to its end.
pub(crate) fn output_of(package: &str, arguments: &[&str]) -> ProcessOutput {
    command(package).args(arguments).output().unwrap()
}
