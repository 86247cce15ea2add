//! api2-flaky's steering and its ledger, as an operator of that API would use them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use jobs_core::job::JobId;
use jobs_core::time::Timestamp;
use reqwest::{Method, RequestBuilder};
use serde::Deserialize;

use super::{Answer, CallError, Http};

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
    pub since_weather: SinceWeather,
}

impl LedgerView {
    /// How many were answered with `status`.
    pub fn with_status(&self, status: u16) -> u64 {
        self.by_status.get(&status.to_string()).copied().unwrap_or_default()
    }
}

/// What happened since the weather was last set, on the API's own clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub struct SinceWeather {
    pub set_at: Timestamp,
    /// Of a request that arrived since.
    pub first_ok_at: Option<Timestamp>,
}

impl SinceWeather {
    /// From the weather to the first 2xx in it.
    pub fn first_ok_after(self) -> Option<Duration> {
        Some(self.first_ok_at?.since(self.set_at))
    }
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
    pub method: String,
    /// Path and query.
    pub target: String,
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

    /// Where it serves.
    ///
    /// # Panics
    /// When its URL is not made of an IP address and a port, as those of a drill's own programs are.
    pub fn address(&self) -> SocketAddr {
        let address = self.url.trim_start_matches("http://").parse();
        address.expect("a drill's own programs listen at an IP address and a port")
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
