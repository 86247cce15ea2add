//! `direct`: the worker's HTTP client calling a destination with nothing before it.
//!
//! The same client settings and the same headers on every call, with as many calls in flight as it does best with; nothing claimed,
//! stored or reported. What a worker could deliver at the very best.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jobs_core::process::clock;
use reqwest::Client;
use tokio::task::JoinSet;

use super::load;

/// As the gateway's default for a destination.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Calls `url` `jobs` times, `concurrency` at a time, with payloads of so many bytes.
///
/// # Errors
/// When a call fails: a reference that does less than it should is none.
pub fn run(url: &str, jobs: u64, concurrency: usize, payload: usize) -> anyhow::Result<ExitCode> {
    let jobs = usize::try_from(jobs)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(call_all(url, jobs, concurrency, payload))?;
    Ok(ExitCode::SUCCESS)
}

async fn call_all(url: &str, jobs: usize, concurrency: usize, payload: usize) -> anyhow::Result<()> {
    let client = client(concurrency)?;
    let next = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    let body = bytes::Bytes::from(load::payload_of(payload));
    for _ in 0..concurrency {
        let body = body.clone();
        let (client, next, url) = (client.clone(), Arc::clone(&next), url.to_owned());
        callers.spawn(async move {
            while next.fetch_add(1, Ordering::Relaxed) < jobs {
                let call = client.post(&url).body(body.clone());
                let call = call
                    .header("content-type", "application/json")
                    .header("idempotency-key", clock::new_job_uuid().to_string())
                    .header("job-attempt", 1)
                    .header("job-epoch", 4_294_967_297_u64);
                let answer = tokio::time::timeout(TIMEOUT, call.send()).await??.error_for_status()?;
                answer.bytes().await?;
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    callers.join_all().await.into_iter().collect()
}

/// As the worker's own.
fn client(concurrency: usize) -> reqwest::Result<Client> {
    Client::builder()
        .http1_only()
        .retry(reqwest::retry::never())
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .tcp_nodelay(true)
        .connect_timeout(Duration::from_secs(10))
        .pool_idle_timeout(Duration::from_secs(4))
        .pool_max_idle_per_host(concurrency)
        .build()
}
