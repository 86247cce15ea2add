//! Clients that were not made for Holdfast and change nothing but their base address: curl, and a Python program.

use std::path::Path;
use std::process::{Command, Output};

use drills::trio::{Plan, Trio};
use drills::wait;

use crate::support::{PATIENCE, all_ended, start};

/// A trio whose gateway forwards to the root of an API 2 that is down.
async fn start_forwarding() -> Trio {
    let settings = "attempt_timeout = \"20s\"".to_owned();
    let mut trio = start(Plan { destination_settings: settings, ..Plan::default() }).await;
    let path = trio.folder().join("destinations.toml");
    let simulating = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{simulating}[destinations.orders]\nurl = \"{}\"\n", trio.api2().url())).unwrap();
    trio.gateway_process().hang_up();
    let known = async || trio.gateway().destination("orders").await.ok();
    assert!(wait::until(PATIENCE, known).await.is_some(), "{}", trio.gateway_process().log());
    trio
}

/// Runs a client to its end. One that is not installed is a failure where everything must be, and else no test.
fn run(program: &str, arguments: &[&str]) -> Option<Output> {
    match Command::new(program).args(arguments).output() {
        Ok(output) => Some(output),
        Err(error) if std::env::var_os("CI").is_none() => {
            eprintln!("skipped: cannot run {program}: {error}");
            None
        }
        Err(error) => panic!("cannot run {program}: {error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_and_a_python_program_change_only_their_base_address() {
    let trio = start_forwarding().await;
    let (gateway, api2) = (trio.gateway().clone(), trio.api2().clone());
    let direct = api2.url().to_owned();
    let forwarding = format!("{}/forward/orders", gateway.url());
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/clients/orders.py");
    let program = program.to_str().unwrap();
    let mut sent = 0;

    if let Some(alone) = run("python3", &[program, &direct]) {
        assert!(!alone.status.success(), "API 2 is down, and it is told so");
        let helped = run("python3", &[program, &forwarding]).expect("it ran before");
        let text = String::from_utf8_lossy(&helped.stdout).into_owned();
        assert!(helped.status.success(), "{text}{}", String::from_utf8_lossy(&helped.stderr));
        assert_eq!(text, "202\n202\n202\n");
        sent += 3;
    }
    let put = |base: &str| {
        let url = format!("{base}/api2/simulate");
        run("curl", &["-sS", "--fail", "-X", "POST", "--data-binary", "a=1&b=2", "-H", "X-Shop: 7", &url])
    };
    if let Some(alone) = put(&direct) {
        assert!(!alone.status.success(), "API 2 is down, and it is told so");
        let helped = put(&forwarding).expect("it ran before");
        assert!(helped.status.success(), "{}", String::from_utf8_lossy(&helped.stderr));
        sent += 1;
    }

    api2.clear_ledger().await.unwrap();
    api2.toggle().await.unwrap();
    all_ended(&gateway).await;
    let ledger =
        wait::until(PATIENCE, async || api2.ledger().await.ok().filter(|ledger| ledger.distinct >= sent)).await;
    assert_eq!(ledger.map(|ledger| (ledger.distinct, ledger.duplicates)), Some((sent, 0)));
}
