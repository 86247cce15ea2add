//! SIGHUP under load: the destinations are read again, and no request is refused, lost or sent twice for it.

use drills::invariants;
use drills::outage::observe;
use drills::steady::Steady;
use drills::trio::{API2, Plan, Trio};
use drills::wait;

use crate::support::{PATIENCE, all_ended, start};

/// Posted a second, all the while.
const PER_SECOND: f64 = 300.0;

/// Reloads of each kind.
const ROUNDS: usize = 5;

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

    let posting = Steady::start(&gateway, API2, PER_SECOND, 1);
    for _ in 0..ROUNDS {
        reload(&mut trio, &second, "destinations reloaded").await;
        reload(&mut trio, "this is not TOML", "destinations not reloaded").await;
        reload(&mut trio, &first, "destinations reloaded").await;
    }
    let client = posting.stop().await;
    let accepted = client.acknowledged().len() as u64;
    assert!(accepted > 0, "nothing was posted meanwhile");
    assert_eq!(client.repeats(), 0, "a request was refused during a reload");
    all_ended(&gateway).await;
    let observed = observe::all(&gateway, &api2, &client, true).await.unwrap();
    let findings = invariants::compare(&observed);
    assert_eq!((findings.lost, findings.delivered), (0, accepted), "{findings:?}");
}
