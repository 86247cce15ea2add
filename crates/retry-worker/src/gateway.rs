//! The client of the gateway's job store: claim, extend, settle.
//!
//! The answer to a claim is taken as it arrives: see [`lines`].
//!
//! Every call goes to the gateway that answered last; where that one cannot be reached or cannot serve, the others are tried
//! in turn. All three verbs may be repeated: a claim whose answer is lost lapses, and settling twice is harmless. When to
//! try again after all gateways have failed is the caller's business, with [`backoff`].

mod lines;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use jobs_core::lease::LEASE_TERM;
use jobs_core::process::clock::{self, Clock};
use jobs_core::protocol::{ClaimRequest, ClaimResponse, ExtendRequest, ExtendResponse, SettleRequest, SettleResponse};
use jobs_core::time::Mono;
use log::Level;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use self::lines::Lines;
use crate::cause;
use crate::config::{Config, GatewayUrl, bearer};

/// A claim may take this much longer than it was asked to wait for work.
const CLAIM_SLACK: Duration = Duration::from_secs(5);
/// A heartbeat that takes longer is of no use: the next one, perhaps to another gateway, must come within the lease.
const EXTEND_TIMEOUT: Duration = Duration::from_secs(2);
/// A settle waits for a commit, behind whatever else the disk does.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Most of an answer that is kept before it is read: a lease has a payload of at most 10 MiB, which JSON can swell sixfold, and a
/// gateway that does not write line by line puts 8 MiB of payloads into one answer.
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

    /// Claims jobs, waiting for work as long as the request says.
    pub(crate) async fn claim(&self, request: &ClaimRequest) -> Result<Claimed<'_>, GatewayError> {
        let timeout = Duration::from_millis(request.wait_ms) + CLAIM_SLACK;
        let mut answer = self.call("claim", request, timeout, Until::Begun).await?;
        // What arrives when its leases have ended cannot be begun any more.
        answer.deadline = Instant::from_std(clock::instant()) + LEASE_TERM;
        Ok(Claimed { answer, lines: Some(Lines::default()) })
    }

    /// Renews leases; also the sign that this worker lives.
    pub(crate) async fn extend(&self, request: &ExtendRequest) -> Result<ExtendResponse, GatewayError> {
        self.call("extend", request, EXTEND_TIMEOUT, Until::Ended).await?.parsed()
    }

    /// Reports outcomes.
    pub(crate) async fn settle(&self, request: &SettleRequest) -> Result<SettleResponse, GatewayError> {
        self.call("settle", request, SETTLE_TIMEOUT, Until::Ended).await?.parsed()
    }

    /// When a gateway last did what was asked; `None` if none ever did.
    pub(crate) fn reached(&self) -> Option<Mono> {
        *self.reached.lock().expect("nothing panics while it holds this lock")
    }

    /// `timeout` is for each gateway that is tried.
    async fn call<Q: Serialize>(
        &self,
        verb: &'static str,
        request: &Q,
        timeout: Duration,
        until: Until,
    ) -> Result<Answer<'_>, GatewayError> {
        let body = Bytes::from(serde_json::to_vec(request).expect("the protocol's types are always JSON"));
        let first = self.current.load(Ordering::Relaxed);
        let mut tried = 1;
        loop {
            let index = (first + tried - 1) % self.urls.len();
            match self.call_one(index, verb, body.clone(), timeout, until).await {
                Err(error) if error.is_local() && tried < self.urls.len() => {
                    let known = self.trouble().contains_key(verb);
                    log::log!(if known { Level::Debug } else { Level::Warn }, "{error}; trying the next gateway");
                    tried += 1;
                }
                result => {
                    self.move_on(first, index);
                    return result.inspect_err(|error| self.note(verb, Some(error)));
                }
            }
        }
    }

    /// The gateway to try first is the other one from now on, unless another has been chosen meanwhile.
    fn move_on(&self, from: usize, to: usize) {
        // Failing means that one has been.
        self.current.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).ok();
    }

    async fn call_one(
        &self,
        index: usize,
        verb: &'static str,
        body: Bytes,
        timeout: Duration,
        until: Until,
    ) -> Result<Answer<'_>, GatewayError> {
        let (gateway, deadline) = (&self.urls[index], Instant::from_std(clock::instant()) + timeout);
        let mut request = self.client.post(gateway.verb(verb)).header(CONTENT_TYPE, "application/json").body(body);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token.clone());
        }
        let unreachable = |cause| GatewayError::Unreachable { gateway: gateway.to_string(), cause };
        let response = match timeout_at(deadline, request.send()).await {
            Ok(sent) => sent.map_err(|error| unreachable(cause::describe(&error)))?,
            Err(_late) => return Err(unreachable(format!("no answer to {verb} within {timeout:?}"))),
        };
        let (status, answered, body) = (response.status(), self.clock.now().mono, Vec::new());
        let mut answer = Answer { gateway: self, index, verb, response, deadline, answered, body };
        if status != StatusCode::OK {
            answer.read().await?;
            let detail = detail(&answer.body);
            return Err(GatewayError::Refused { gateway: gateway.to_string(), verb, status, detail });
        }
        if until == Until::Ended {
            answer.read().await?;
        }
        Ok(answer)
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

/// How much of an answer must have arrived before no other gateway is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    Begun,
    Ended,
}

/// A gateway's answer that has begun to arrive.
struct Answer<'a> {
    gateway: &'a Gateway,
    /// Which of them it was.
    index: usize,
    verb: &'static str,
    response: Response,
    deadline: Instant,
    /// When it began to arrive.
    answered: Mono,
    /// What [`Answer::read`] has read.
    body: Vec<u8>,
}

impl Answer<'_> {
    fn parsed<A: DeserializeOwned>(self) -> Result<A, GatewayError> {
        let parsed = serde_json::from_slice(&self.body).map_err(|error| self.unreadable(error.to_string()));
        self.gateway.note(self.verb, parsed.as_ref().err());
        parsed
    }

    /// Reads it to its end.
    async fn read(&mut self) -> Result<(), GatewayError> {
        while let Some(chunk) = self.chunk().await? {
            if self.body.len() + chunk.len() > MAX_ANSWER {
                return Err(self.unreachable(format!("an answer of more than {MAX_ANSWER} bytes")));
            }
            self.body.extend_from_slice(&chunk);
        }
        Ok(())
    }

    /// What arrives next of it; `None` at its end.
    async fn chunk(&mut self) -> Result<Option<Bytes>, GatewayError> {
        match timeout_at(self.deadline, self.response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(error)) => Err(self.unreachable(cause::describe(&error))),
            Err(_late) => Err(self.unreachable(format!("its answer to {} does not end", self.verb))),
        }
    }

    /// It was no success after all.
    fn failed(&self, error: &GatewayError) {
        if error.is_local() {
            self.gateway.move_on(self.index, (self.index + 1) % self.gateway.urls.len());
        }
        self.gateway.note(self.verb, Some(error));
    }

    fn unreachable(&self, cause: String) -> GatewayError {
        GatewayError::Unreachable { gateway: self.url(), cause }
    }

    fn unreadable(&self, cause: String) -> GatewayError {
        GatewayError::Unreadable { gateway: self.url(), verb: self.verb, cause }
    }

    fn url(&self) -> String {
        self.gateway.urls[self.index].to_string()
    }
}

/// The answer to a claim.
pub(crate) struct Claimed<'a> {
    answer: Answer<'a>,
    /// `None` once it has all been read.
    lines: Option<Lines>,
}

impl Claimed<'_> {
    /// When it began to arrive, from which on its leases run.
    pub(crate) fn answered(&self) -> Mono {
        self.answer.answered
    }

    /// What has arrived of it since; `None` when that was all. What came before an error stands.
    pub(crate) async fn next(&mut self) -> Result<Option<ClaimResponse>, GatewayError> {
        let Some(lines) = &mut self.lines else { return Ok(None) };
        let part = match self.answer.chunk().await {
            Ok(Some(chunk)) => return Ok(Some(lines.take(&chunk))),
            Ok(None) => self.lines.take().expect("there was one").end().map_err(|cause| self.answer.unreadable(cause)),
            Err(error) => Err(error),
        };
        match &part {
            Ok(_) => self.answer.gateway.note(self.answer.verb, None),
            Err(error) => self.answer.failed(error),
        }
        part.map(Some)
    }
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
