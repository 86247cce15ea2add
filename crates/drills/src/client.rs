//! The two HTTP interfaces a drill talks to, as a client of each would: the gateway's public API, and api2-flaky's.
//!
//! Answers are read into types of our own rather than the programs': a drill must notice when a program changes what it says.

use std::collections::BTreeMap;
use std::time::Duration;

use jobs_core::job::JobId;
use jobs_core::time::Timestamp;
use reqwest::{Client, Method, RequestBuilder};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Longer than any answer a drill asks for takes; a gateway that stands still is noticed.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("cannot call {url}: {source}")]
    Transport { url: String, source: reqwest::Error },
    #[error("{url} answered {status}: {body}")]
    Status { url: String, status: u16, body: String },
    #[error("{url} answered what a drill cannot read, {source}: {body}")]
    Body { url: String, source: serde_json::Error, body: String },
}

/// The connections of a drill, shared by its clients.
#[derive(Debug, Clone)]
pub struct Http(Client);

/// An answer, whatever its status.
#[derive(Debug, Clone)]
pub struct Answer {
    pub url: String,
    pub status: u16,
    /// It carried `Idempotency-Replayed: true`.
    pub replayed: bool,
    pub body: String,
}

impl Http {
    /// # Panics
    /// When TLS cannot be set up because the system has no CA certificates; our programs do not start there either.
    #[expect(clippy::new_without_default, reason = "a default that can panic would surprise")]
    pub fn new() -> Self {
        let client = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .timeout(ANSWER_LIMIT);
        Http(client.build().expect("the system's CA certificates can be read"))
    }

    /// Whether the program at `url` can serve.
    pub async fn is_ready(&self, url: &str) -> bool {
        let answer = self.0.get(format!("{url}/readyz")).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    pub fn request(&self, method: Method, url: String) -> RequestBuilder {
        self.0.request(method, url)
    }
}

impl Answer {
    /// Sends `request` and reads the whole answer.
    ///
    /// # Errors
    /// [`CallError::Transport`] when there is none.
    pub async fn to(request: RequestBuilder) -> Result<Self, CallError> {
        let (client, request) = request.build_split();
        let malformed = |source| CallError::Transport { url: "a malformed address".to_owned(), source };
        let request = request.map_err(malformed)?;
        let url = request.url().to_string();
        let failed = |source| CallError::Transport { url: url.clone(), source };
        let answer = client.execute(request).await.map_err(failed)?;
        let status = answer.status().as_u16();
        let replayed = answer.headers().get("idempotency-replayed").is_some_and(|value| value == "true");
        let body = answer.text().await.map_err(failed)?;
        Ok(Answer { url, status, replayed, body })
    }

    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Reads a success as `T`.
    ///
    /// # Errors
    /// [`CallError::Status`] where it is none, [`CallError::Body`] where it is not `T`.
    pub fn json<T: DeserializeOwned>(self) -> Result<T, CallError> {
        let Answer { url, status, body, .. } = self;
        if !(200..300).contains(&status) {
            return Err(CallError::Status { url, status, body });
        }
        serde_json::from_str(&body).map_err(|source| CallError::Body { url, source, body })
    }

    /// Like [`Answer::json`], with 404 as `None`.
    fn found<T: DeserializeOwned>(self) -> Result<Option<T>, CallError> {
        if self.status == 404 { Ok(None) } else { self.json().map(Some) }
    }
}

/// The gateway, by its public API.
#[derive(Debug, Clone)]
pub struct Gateway {
    url: String,
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
    pub outcome: String,
    pub charged: bool,
    #[serde(default)]
    pub status: Option<u16>,
    #[serde(default)]
    pub retry_delay_ms: Option<u64>,
    #[serde(default)]
    pub worker: Option<String>,
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
        Gateway { url: url.trim_end_matches('/').to_owned(), http: http.clone() }
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
        let request = self.http.request(Method::POST, format!("{}/api1/process/{destination}", self.url));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        Answer::to(request.header("content-type", "application/json").body(body.to_owned())).await
    }

    /// A job; `None` where the gateway knows none of that id.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn job(&self, id: JobId) -> Result<Option<JobView>, CallError> {
        Answer::to(self.http.request(Method::GET, format!("{}/api1/jobs/{id}", self.url))).await?.found()
    }

    /// # Errors
    /// [`CallError`]
    pub async fn stats(&self) -> Result<StatsView, CallError> {
        Answer::to(self.http.request(Method::GET, format!("{}/api1/stats", self.url))).await?.json()
    }

    /// Any other call, for whoever needs its answer as it is.
    ///
    /// # Errors
    /// [`CallError::Transport`]
    pub async fn call(&self, method: Method, path: &str) -> Result<Answer, CallError> {
        Answer::to(self.http.request(method, format!("{}{path}", self.url))).await
    }
}

/// An api2-flaky: its weather and its ledger.
#[derive(Debug, Clone)]
pub struct Api2 {
    url: String,
    control: String,
    http: Http,
}

/// `GET /api2/ledger`, as far as drills look.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct LedgerView {
    pub requests: u64,
    pub accepted: u64,
    pub distinct: u64,
    pub duplicates: u64,
    pub by_status: BTreeMap<String, u64>,
    #[serde(default)]
    pub first_ok_at: Option<Timestamp>,
    #[serde(default)]
    pub last_ok_at: Option<Timestamp>,
    #[serde(default)]
    pub per_second: Vec<SecondView>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SecondView {
    pub at: Timestamp,
    pub requests: u64,
    pub ok: u64,
}

/// `GET /api2/ledger/{key}`: what arrived under one key.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ReceivedView {
    /// How many were answered 2xx.
    pub ok: u64,
    pub requests: Vec<RequestView>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RequestView {
    pub time: Timestamp,
    pub attempt: Option<u64>,
    pub epoch: Option<u64>,
    pub status: Option<u16>,
}

impl Api2 {
    /// `control`: where it is steered and read, which answers in any weather.
    pub fn new(url: &str, control: &str, http: &Http) -> Self {
        let trimmed = |url: &str| url.trim_end_matches('/').to_owned();
        Api2 { url: trimmed(url), control: trimmed(control), http: http.clone() }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Flips it up or down; answers with its text.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn toggle(&self) -> Result<String, CallError> {
        let answer = Answer::to(self.at(Method::POST, "/api2/toggle")).await?;
        let Answer { url, status, body, .. } = answer;
        if status == 200 { Ok(body) } else { Err(CallError::Status { url, status, body }) }
    }

    /// Sets the weather, as `PUT /api2/drill` takes it.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn set_weather(&self, weather: &serde_json::Value) -> Result<(), CallError> {
        let answer = Answer::to(self.at(Method::PUT, "/api2/drill").json(weather)).await?;
        answer.json::<serde_json::Value>().map(drop)
    }

    /// # Errors
    /// [`CallError`]
    pub async fn ledger(&self) -> Result<LedgerView, CallError> {
        Answer::to(self.at(Method::GET, "/api2/ledger")).await?.json()
    }

    /// What arrived for a job; `None` if nothing did.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn received(&self, id: JobId) -> Result<Option<ReceivedView>, CallError> {
        Answer::to(self.at(Method::GET, &format!("/api2/ledger/{id}"))).await?.found()
    }

    /// Forgets all that arrived.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn clear_ledger(&self) -> Result<(), CallError> {
        let answer = Answer::to(self.at(Method::DELETE, "/api2/ledger")).await?;
        let Answer { url, status, body, .. } = answer;
        if (200..300).contains(&status) { Ok(()) } else { Err(CallError::Status { url, status, body }) }
    }

    fn at(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.control))
    }
}
