//! SIGHUP under load: the destinations are read again, and no request is refused, lost or sent twice for it.

use drills::invariants;
use drills::outage::observe;
use drills::trio::{Plan, Trio};
use drills::wait;

use crate::support::{PATIENCE, all_ended, all_posted, post_many, start};

const JOBS: u64 = 3_000;

/// Reloads of each kind that the load must meet.
const FEWEST: usize = 5;

/// Has the gateway read `file`, and waits until it has said `said` one more time.
async fn reload(trio: &mut Trio, file: &str, said: &str) {
    let before = trio.gateway_process().log().matches(said).count();
    std::fs::write(trio.folder().join("destinations.toml"), file).unwrap();
    trio.gateway_process().hang_up();
    let heard = async || (trio.gateway_process().log().matches(said).count() > before).then_some(());
    assert!(wait::until(PATIENCE, heard).await.is_some(), "{}", trio.gateway_process().log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_under_load_loses_no_request() {
    let settings = "attempt_timeout = \"20s\"".to_owned();
    let mut trio = start(Plan { up: true, destination_settings: settings, ..Plan::default() }).await;
    let (gateway, api2) = (trio.gateway().clone(), trio.api2().clone());
    let first = std::fs::read_to_string(trio.folder().join("destinations.toml")).unwrap();
    let second = first.replace("20s", "21s");

    let posting = tokio::spawn(all_posted(post_many(&gateway, JOBS)));
    let mut reloads = 0;
    while !posting.is_finished() {
        reload(&mut trio, &second, "destinations reloaded").await;
        reload(&mut trio, "this is not TOML", "destinations not reloaded").await;
        reload(&mut trio, &first, "destinations reloaded").await;
        reloads += 1;
    }
    let client = posting.await.unwrap();
    assert!(reloads >= FEWEST, "the load was over after {reloads} rounds");
    assert_eq!(client.repeats(), 0, "a request was refused during a reload");
    assert_eq!(client.acknowledged().len() as u64, JOBS);
    all_ended(&gateway).await;
    let observed = observe::all(&gateway, &api2, &client, true).await.unwrap();
    let findings = invariants::compare(&observed);
    assert_eq!((findings.lost, findings.delivered), (0, JOBS), "{findings:?}");
}
