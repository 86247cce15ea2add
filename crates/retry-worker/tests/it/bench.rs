use crate::support::destination::{Destination, Reaction};
use crate::support::gateway::Gateway;
use crate::support::http::answer;
use crate::support::lease::lease;
use crate::support::until;
use std::process::*;
#[tokio::test]
async fn bench() {
    let destination = Destination::always(Reaction::Answer(answer(200, "API 2 processed payload"))).await;
    let gateway = Gateway::start().await;
    let mut child = Command::new(env!("CARGO_BIN_EXE_retry-worker")).args(["--listen","127.0.0.1:0","--gateway",&gateway.url()]).stderr(Stdio::null()).spawn().unwrap();
    let cpu = |pid: u32| { let s = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap(); let f: Vec<&str> = s.rsplit(')').next().unwrap().split_whitespace().collect(); f[11].parse::<u64>().unwrap() + f[12].parse::<u64>().unwrap() };
    let n = 20_000u32;
    for round in 0..3 {
        let before = cpu(child.id());
        let t = std::time::Instant::now();
        gateway.grant((1..=n).map(|job| lease(round * n + job, &destination.url("/"))));
        until("all", || (gateway.heard().taken.iter().map(|t| t.outcomes.len()).sum::<usize>() >= ((round + 1) * n) as usize).then_some(())).await;
        let ticks = cpu(child.id()) - before;
        let (settles, claims) = { let h = gateway.heard(); (h.taken.len(), h.claims.len()) };
        println!("{} us CPU/job, {:.0} jobs/s, settles {} claims {} conns {} rss {}", ticks * 10_000 / n as u64, n as f64 / t.elapsed().as_secs_f64(), settles, claims, destination.connections(), std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap().lines().find(|l| l.starts_with("VmRSS")).unwrap());
    }
    child.kill().unwrap(); child.wait().unwrap();
}
