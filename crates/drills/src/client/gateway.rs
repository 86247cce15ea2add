//! The gateway's public API, as a client of it uses it.

use std::collections::BTreeMap;

use jobs_core::job::JobId;
use jobs_core::process::secret::Secret;
use jobs_core::time::Timestamp;
use reqwest::{Method, RequestBuilder};
use serde::Deserialize;

use super::{Answer, CallError, Http};

/// The gateway, by its public API.
#[derive(Debug, Clone)]
pub struct Gateway {
    url: String,
    key: Option<Secret>,
    http: Http,
}

/// A job as the gateway shows it, as far as drills look.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct JobView {
    pub id: JobId,
    pub state: String,
    pub attempts: u32,
    pub created_at: Timestamp,
    #[serde(default)]
    pub dead_reason: Option<String>,
    #[serde(default)]
    pub last_error: Option<String>,
    pub attempt_log: Vec<AttemptView>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct AttemptView {
    pub number: u32,
    /// That of its lease.
    pub epoch: u64,
    /// When it was claimed.
    pub started_at: Timestamp,
    pub outcome: String,
    pub charged: bool,
    #[serde(default)]
    pub status: Option<u16>,
    #[serde(default)]
    pub retry_delay_ms: Option<u64>,
    #[serde(default)]
    pub next_run_at: Option<Timestamp>,
    #[serde(default)]
    pub worker: Option<String>,
}

/// `GET /api1/destinations/{name}`, as far as drills look.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct DestinationView {
    /// `closed`, `open`, `ramp` or `paused`.
    pub state: String,
    /// Why it is held, where it is, and since when.
    pub reason: Option<String>,
    pub since: Option<Timestamp>,
    pub limit: u32,
    pub rate: Option<f64>,
    /// How often it has recovered.
    pub epoch: u64,
    pub in_flight: u32,
    pub states: BTreeMap<String, u64>,
}

impl DestinationView {
    /// Jobs that are not at their end.
    pub fn waiting(&self) -> u64 {
        ["pending", "leased"].iter().filter_map(|state| self.states.get(*state)).sum()
    }
}

/// `GET /api1/stats`, as far as drills look.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct StatsView {
    pub states: BTreeMap<String, u64>,
    pub accepted: u64,
    pub purged: u64,
    pub attempts: u64,
    /// Deliveries that may have happened twice, by cause.
    pub duplicates: BTreeMap<String, u64>,
}

impl StatsView {
    /// Jobs in `state`.
    pub fn of(&self, state: &str) -> u64 {
        self.states.get(state).copied().unwrap_or_default()
    }

    /// Jobs that are not at their end.
    pub fn waiting(&self) -> u64 {
        self.of("pending") + self.of("leased")
    }
}

/// The answer to a request that was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Accepted {
    pub id: JobId,
    pub message: String,
}

impl Gateway {
    /// `url`: scheme, host and port.
    pub fn new(url: &str, http: &Http) -> Self {
        Gateway { url: url.trim_end_matches('/').to_owned(), key: None, http: http.clone() }
    }

    /// The same, called with a client's key.
    pub fn with_key(self, key: Option<Secret>) -> Self {
        Gateway { key, ..self }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Host and port.
    pub fn address(&self) -> &str {
        self.url.split_once("://").map_or(self.url.as_str(), |(_, address)| address)
    }

    /// `POST /api1/process/{destination}` with a JSON body.
    ///
    /// # Errors
    /// [`CallError::Transport`] when there is no answer: whether the job was stored is then unknown.
    pub async fn process(&self, destination: &str, headers: &[(&str, &str)], body: &str) -> Result<Answer, CallError> {
        let request = self.request(Method::POST, &format!("/api1/process/{destination}"));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        Answer::to(request.header("content-type", "application/json").body(body.to_owned())).await
    }

    /// `POST /api1/jobs` with up to a thousand envelopes; answers how many of them were accepted.
    ///
    /// # Errors
    /// [`CallError`] when not all of them were.
    pub async fn post_batch(&self, envelopes: &[serde_json::Value]) -> Result<u64, CallError> {
        let answer =
            Answer::to(self.http.request(Method::POST, format!("{}/api1/jobs", self.url)).json(envelopes)).await?;
        if answer.status != 202 {
            return Err(CallError::Status { url: answer.url, status: answer.status, body: answer.body });
        }
        Ok(answer.json::<serde_json::Value>()?["results"].as_array().map_or(0, |results| results.len() as u64))
    }

    /// A job; `None` where the gateway knows none of that id.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn job(&self, id: JobId) -> Result<Option<JobView>, CallError> {
        Answer::to(self.request(Method::GET, &format!("/api1/jobs/{id}"))).await?.found()
    }

    /// # Errors
    /// [`CallError`]
    pub async fn stats(&self) -> Result<StatsView, CallError> {
        Answer::to(self.request(Method::GET, "/api1/stats")).await?.json()
    }

    /// A destination, with its gate.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn destination(&self, name: &str) -> Result<DestinationView, CallError> {
        Answer::to(self.request(Method::GET, &format!("/api1/destinations/{name}"))).await?.json()
    }

    /// Any other call, for whoever needs its answer as it is.
    ///
    /// # Errors
    /// [`CallError::Transport`]
    pub async fn call(&self, method: Method, path: &str) -> Result<Answer, CallError> {
        Answer::to(self.request(method, path)).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        match &self.key {
            Some(key) => request.bearer_auth(key.expose()),
            None => request,
        }
    }
}
