//! The two HTTP interfaces a drill talks to, as a client of each would: the gateway's public API, and api2-flaky's.
//!
//! Answers are read into types of our own rather than the programs': a drill must notice when a program changes what it says.

mod api2;
mod gateway;

use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder};
use serde::de::DeserializeOwned;

pub use api2::{Api2, LedgerView, ReceivedView, RequestView, SecondView, SinceWeather};
pub use gateway::{Accepted, AttemptView, DestinationView, Gateway, JobView, StatsView};

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
