//! Hostile clients and destinations, with real processes: none of them does any harm.

use drills::hostile::{self, Size};
use drills::report::Progress;

use crate::support::programs;

#[tokio::test(flavor = "multi_thread")]
async fn hostile_clients_and_destinations_do_no_harm() {
    let report = hostile::run(programs(), Size::TINY, 7, &mut Progress::new()).await.unwrap();
    assert!(report.passed, "{report}");
    assert!(report.requests > 400, "{report}");
    assert!(report.jobs > 40, "{report}");
}
