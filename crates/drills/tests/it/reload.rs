//! SIGHUP under load: the destinations are read again, and no request is refused, lost or sent twice for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use drills::invariants;
use drills::outage::observe;
use drills::trio::{API2, Plan};

use crate::support::{all_ended, all_posted, post, post_many, start};

const JOBS: u64 = 3_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_under_load_loses_no_request() {
    let mut trio = start(Plan { up: true, ..Plan::default() }).await;
    let (gateway, api2) = (trio.gateway().clone(), trio.api2().clone());
    let config = trio.folder().join("more.toml");
    let destination = |name: &str| format!("[destinations.{name}]\nurl = \"{}/api2/simulate\"\n", api2.url());
    std::fs::write(&config, destination("first")).unwrap();
    trio.add_gateway_flags(&["--config", config.to_str().unwrap()]);
    trio.gateway_process().kill();
    trio.restart_gateway().await.unwrap();

    let posters = post_many(&gateway, JOBS);
    let over = Arc::new(AtomicBool::new(false));
    let posting = tokio::spawn({
        let over = Arc::clone(&over);
        async move {
            let client = all_posted(posters).await;
            over.store(true, Ordering::Relaxed);
            client
        }
    });
    let mut reloads = 0;
    let files = [destination("first"), "this is not TOML".to_owned(), destination("second")];
    for file in files.iter().cycle() {
        if over.load(Ordering::Relaxed) {
            break;
        }
        std::fs::write(&config, file).unwrap();
        trio.gateway_process().hang_up();
        reloads += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let client = posting.await.unwrap();
    assert!(reloads > 10, "the load was over after {reloads} reloads");
    assert_eq!(client.repeats(), 0, "a request was refused during a reload");
    assert_eq!(client.acknowledged().len() as u64, JOBS);
    all_ended(&gateway).await;
    let observed = observe::all(&gateway, &api2, &client, true).await.unwrap();
    let findings = invariants::compare(&observed);
    assert_eq!((findings.lost, findings.delivered), (0, JOBS), "{findings:?}");

    // What the last file says is what is known now, also after so many.
    std::fs::write(&config, destination("last")).unwrap();
    trio.gateway_process().hang_up();
    let known = drills::wait::until(crate::support::PATIENCE, async || {
        gateway.process("last", &[], "{}").await.ok().filter(|answer| answer.status == 202)
    });
    assert!(known.await.is_some(), "{}", trio.gateway_process().log());
    post(&gateway, API2, "{}").await;
}
