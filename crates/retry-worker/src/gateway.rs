//! The client of the gateway's job store: claim, extend, settle.
//!
//! Every call goes to the gateway that answered last; where that one cannot be reached or cannot serve, the others are tried
//! in turn. All three verbs may be repeated: a claim whose answer is lost lapses, and settling twice is harmless. When to
//! try again after all gateways have failed is the caller's business, with [`backoff`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use jobs_core::process::clock::{self, Clock};
use jobs_core::protocol::{ClaimRequest, ClaimResponse, ExtendRequest, ExtendResponse, SettleRequest, SettleResponse};
use jobs_core::time::Mono;
use log::Level;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cause;
use crate::config::{Config, GatewayUrl, bearer};

/// A claim may take this much longer than it was asked to wait for work.
const CLAIM_SLACK: Duration = Duration::from_secs(5);
/// A heartbeat that takes longer is of no use: the next one, perhaps to another gateway, must come within the lease.
const EXTEND_TIMEOUT: Duration = Duration::from_secs(2);
/// A settle waits for a commit, behind whatever else the disk does.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Largest answer read: a gateway puts at most 8 MiB of payloads into one, or a single one of at most 10, which JSON can
/// swell sixfold.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// Longest explanation taken from an answer that is no success.
const MAX_DETAIL: usize = 300;

const FIRST_BACKOFF: Duration = Duration::from_millis(50);
/// Short, because a gateway that restarts is back within seconds and finds all leases waiting.
const MAX_BACKOFF: Duration = Duration::from_secs(1);

/// The kinds of trouble that are worth telling apart in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Unreachable,
    Refused(StatusCode),
    Unreadable,
}

/// Why no gateway did what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GatewayError {
    #[error("{gateway}: {cause}")]
    Unreachable { gateway: String, cause: String },
    #[error("{gateway} answered {verb} with {status}: {detail}")]
    Refused { gateway: String, verb: &'static str, status: StatusCode, detail: String },
    #[error("{gateway} answered {verb} with something this worker cannot read: {cause}")]
    Unreadable { gateway: String, verb: &'static str, cause: String },
}

impl GatewayError {
    /// Whether another gateway may do better.
    fn is_local(&self) -> bool {
        match self {
            GatewayError::Unreachable { .. } => true,
            GatewayError::Refused { status, .. } => status.is_server_error(),
            GatewayError::Unreadable { .. } => false,
        }
    }

    fn trouble(&self) -> Trouble {
        match self {
            GatewayError::Unreachable { .. } => Trouble::Unreachable,
            GatewayError::Refused { status, .. } => Trouble::Refused(*status),
            GatewayError::Unreadable { .. } => Trouble::Unreadable,
        }
    }

    /// Whether it is this very request that the gateway will never take; not its state, our token or our pace.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            GatewayError::Refused { status, .. } => {
                status.is_client_error() && !matches!(status.as_u16(), 401 | 403 | 404 | 407 | 408 | 425 | 429)
            }
            GatewayError::Unreachable { .. } | GatewayError::Unreadable { .. } => false,
        }
    }
}

/// The gateways this worker works for.
pub(crate) struct Gateway {
    client: Client,
    clock: Clock,
    urls: Vec<GatewayUrl>,
    token: Option<HeaderValue>,
    /// Index of the gateway to try first.
    current: AtomicUsize,
    /// What is wrong with each verb, so that an outage is logged when it begins and ends, not a hundred times between.
    trouble: Mutex<BTreeMap<&'static str, Trouble>>,
    /// When a gateway last did what was asked.
    reached: Mutex<Option<Mono>>,
}

impl Gateway {
    pub(crate) fn new(client: Client, clock: Clock, config: &Config) -> Self {
        Gateway {
            client,
            clock,
            urls: config.gateways.clone(),
            token: config.token.as_ref().and_then(bearer),
            current: AtomicUsize::new(0),
            trouble: Mutex::default(),
            reached: Mutex::default(),
        }
    }

    /// Claims jobs, waiting for work as long as the request says. Also answers when the answer began to arrive, from which
    /// on the leases run.
    pub(crate) async fn claim(&self, request: &ClaimRequest) -> Result<(ClaimResponse, Mono), GatewayError> {
        let timeout = Duration::from_millis(request.wait_ms) + CLAIM_SLACK;
        self.call("claim", request, timeout).await
    }

    /// Renews leases; also the sign that this worker lives.
    pub(crate) async fn extend(&self, request: &ExtendRequest) -> Result<ExtendResponse, GatewayError> {
        Ok(self.call("extend", request, EXTEND_TIMEOUT).await?.0)
    }

    /// Reports outcomes.
    pub(crate) async fn settle(&self, request: &SettleRequest) -> Result<SettleResponse, GatewayError> {
        Ok(self.call("settle", request, SETTLE_TIMEOUT).await?.0)
    }

    /// When a gateway last did what was asked; `None` if none ever did.
    pub(crate) fn reached(&self) -> Option<Mono> {
        *self.reached.lock().expect("nothing panics while it holds this lock")
    }

    async fn call<Q: Serialize, A: DeserializeOwned>(
        &self,
        verb: &'static str,
        request: &Q,
        timeout: Duration,
    ) -> Result<(A, Mono), GatewayError> {
        let body = Bytes::from(serde_json::to_vec(request).expect("the protocol's types are always JSON"));
        let first = self.current.load(Ordering::Relaxed);
        let mut tried = 1;
        loop {
            let index = (first + tried - 1) % self.urls.len();
            let result = self.call_one(&self.urls[index], verb, body.clone(), timeout).await;
            match result {
                Err(error) if error.is_local() && tried < self.urls.len() => {
                    let known = self.trouble().contains_key(verb);
                    log::log!(if known { Level::Debug } else { Level::Warn }, "{error}; trying the next gateway");
                    tried += 1;
                }
                result => {
                    self.current.store(index, Ordering::Relaxed);
                    self.note(verb, result.as_ref().err());
                    return result;
                }
            }
        }
    }

    async fn call_one<A: DeserializeOwned>(
        &self,
        gateway: &GatewayUrl,
        verb: &'static str,
        body: Bytes,
        timeout: Duration,
    ) -> Result<(A, Mono), GatewayError> {
        let exchange = async {
            let mut request = self.client.post(gateway.verb(verb)).header(CONTENT_TYPE, "application/json").body(body);
            if let Some(token) = &self.token {
                request = request.header(AUTHORIZATION, token.clone());
            }
            let response = request.send().await.map_err(|error| cause::describe(&error))?;
            let (status, answered) = (response.status(), self.clock.now().mono);
            Ok((status, answered, read(response).await?))
        };
        let late = || Err(format!("no answer to {verb} within {timeout:?}"));
        let result = tokio::time::timeout(timeout, exchange).await.unwrap_or_else(|_| late());
        let (status, answered, body) =
            result.map_err(|cause| GatewayError::Unreachable { gateway: gateway.to_string(), cause })?;
        if status != StatusCode::OK {
            return Err(GatewayError::Refused { gateway: gateway.to_string(), verb, status, detail: detail(&body) });
        }
        let unreadable = |error: serde_json::Error| GatewayError::Unreadable {
            gateway: gateway.to_string(),
            verb,
            cause: error.to_string(),
        };
        Ok((serde_json::from_slice(&body).map_err(unreadable)?, answered))
    }

    /// Logs where trouble with a verb begins and ends.
    fn note(&self, verb: &'static str, error: Option<&GatewayError>) {
        let Some(error) = error else {
            if self.trouble().remove(verb).is_some() {
                log::info!("the gateway answers {verb} again");
            }
            *self.reached.lock().expect("nothing panics while it holds this lock") = Some(self.clock.now().mono);
            return;
        };
        // What is wrong with one request is its sender's to log.
        if !error.is_final() {
            let known = self.trouble().insert(verb, error.trouble()) == Some(error.trouble());
            log::log!(
                if known { Level::Debug } else { Level::Warn },
                "no gateway answers {verb}, still trying: {error}"
            );
        }
    }

    fn trouble(&self) -> MutexGuard<'_, BTreeMap<&'static str, Trouble>> {
        self.trouble.lock().expect("nothing panics while it holds this lock")
    }
}

async fn read(mut response: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| cause::describe(&error))? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(format!("an answer of more than {MAX_ANSWER} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// What the gateway says is wrong: the `detail` of its problem+json, else the beginning of whatever it is.
fn detail(body: &[u8]) -> String {
    let problem = serde_json::from_slice::<serde_json::Value>(body).ok();
    let detail = problem.as_ref().and_then(|problem| problem.get("detail")?.as_str());
    let text = detail.map_or_else(|| String::from_utf8_lossy(&body[..body.len().min(MAX_DETAIL)]), Into::into);
    text.chars().take(MAX_DETAIL).collect()
}

/// How long to wait after `failures` (>= 1) failures in a row: doubling up to a second, with jitter from the process's own
/// randomness, so that a fleet does not call a returning gateway in step.
pub(crate) fn backoff(failures: u32) -> Duration {
    let full = FIRST_BACKOFF.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(MAX_BACKOFF);
    let random = u32::try_from(clock::new_uuid().as_u128() & 0xffff).expect("16 bits fit in 32");
    full / 2 + full * random / 0x2_0000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backoff_doubles_to_a_second_and_is_never_the_same() {
        for (failures, longest_ms) in [(1, 50), (2, 100), (5, 800), (6, 1_000), (u32::MAX, 1_000)] {
            let waits: Vec<Duration> = (0..100).map(|_| backoff(failures)).collect();
            let longest = Duration::from_millis(longest_ms);
            assert!(waits.iter().all(|wait| (longest / 2..=longest).contains(wait)), "{failures}: {waits:?}");
            assert!(waits.iter().any(|wait| wait != &waits[0]));
        }
    }

    #[test]
    fn the_explanation_is_that_of_the_problem_and_short() {
        assert_eq!(detail(br#"{"title":"no","detail":"the token is unknown"}"#), "the token is unknown");
        assert_eq!(detail(b"<html>"), "<html>");
        assert_eq!(detail(&[b'x'; 5_000]).len(), MAX_DETAIL);
    }
}
