//! What gateway and worker say to each other: the JSON of `/jobstore/v1`.
//!
//! The path carries the version; unknown fields are ignored on both sides and new ones are optional, so that a gateway and a
//! worker of neighbouring versions work together. Payloads travel as exact UTF-8 text, or base64 where they are not.

use serde::{Deserialize, Serialize};

use crate::job::{DestinationName, Epoch, JobId, StateName, WorkerId};
use crate::lease::LeaseKey;
use crate::outcome::{Class, Rule};

/// Most leases one claim may ask for: with payloads of the usual size an answer of about a megabyte.
pub const MAX_CLAIM: u32 = 1_000;
/// Most outcomes in one settle, and leases in one heartbeat.
pub const MAX_SETTLE: usize = 10_000;
/// Longest that a claim waits for work.
pub const MAX_WAIT_MS: u64 = 30_000;

/// `POST /jobstore/v1/claim`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClaimRequest {
    pub worker: WorkerId,
    /// Attempts this worker can have in flight in all.
    pub concurrency: u32,
    /// Leases wanted now, 1 to [`MAX_CLAIM`].
    pub max: u32,
    /// How long to wait for work, up to [`MAX_WAIT_MS`]; 0: not at all.
    #[serde(default)]
    pub wait_ms: u64,
}

/// What the first line of a [`ClaimResponse`] ends with, where it is written line by line.
pub const LEASES: &[u8] = b"\"leases\":[";

/// The answer to a claim.
///
/// It is one JSON object. A gateway writes it line by line, so that a worker can begin the first lease before the last has arrived: a line
/// that ends with [`LEASES`], then each lease on one line of its own with the comma before or after it, then the rest, from
/// the closing bracket on. Where the first line does not end so, any spelling will do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct ClaimResponse {
    pub leases: Vec<WireLease>,
    /// Health checks to make.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<WireProbe>,
    /// Destinations that are held: release what has not been sent to them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub release: Vec<DestinationName>,
}

/// A job to attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WireLease {
    pub job_id: JobId,
    pub epoch: Epoch,
    /// Left of the lease when the answer was written.
    pub lease_ms: u64,
    pub destination: DestinationName,
    /// For `Job-Attempt`.
    pub attempt: u32,
    pub request: WireRequest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_base64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// The caller's span, of which the attempt's own, the one in `traceparent`, is a child; none where the trace is the job's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_span: Option<String>,
}

/// How to call the destination. `headers` are complete but for `Job-Epoch`, `Job-Attempt` and what HTTP itself needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WireRequest {
    pub method: String,
    pub url: String,
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    pub timeout_ms: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
}

/// A health check to make.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WireProbe {
    pub destination: DestinationName,
    pub method: String,
    pub url: String,
    pub expect: u16,
    pub timeout_ms: u64,
}

/// `POST /jobstore/v1/settle`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SettleRequest {
    pub worker: WorkerId,
    #[serde(default)]
    pub outcomes: Vec<WireOutcome>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<WireHealth>,
}

/// What became of one lease.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WireOutcome {
    pub job_id: JobId,
    pub epoch: Epoch,
    pub class: WireClass,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(default)]
    pub latency_ms: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unknown: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<WireResponse>,
}

/// A class, or `release`: not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WireClass {
    Release,
    #[serde(untagged)]
    Attempted(Class),
}

/// The destination's answer, as far as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct WireResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

/// What a health check found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WireHealth {
    pub destination: DestinationName,
    pub healthy: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SettleResponse {
    /// One per outcome, in order.
    pub results: Vec<WireSettled>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WireSettled {
    pub job_id: JobId,
    pub result: WireResult,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<StateName>,
    #[serde(default)]
    pub attempts: u32,
    /// Set where the job waits for another attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_delay_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WireResult {
    Ok,
    LeaseLost,
    AlreadyFinished,
    UnknownJob,
}

/// `POST /jobstore/v1/extend`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExtendRequest {
    pub worker: WorkerId,
    #[serde(default)]
    pub holding: Vec<LeaseKey>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct ExtendResponse {
    /// What the renewed leases have left.
    pub lease_ms: u64,
    #[serde(default)]
    pub lost: Vec<LeaseKey>,
    #[serde(default)]
    pub cancel: Vec<LeaseKey>,
    #[serde(default)]
    pub release: Vec<DestinationName>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_settle_reads_as_the_contract_writes_it() {
        let text = r#"{"worker":"00000000-0000-0000-0000-000000000001","outcomes":[
            {"job_id":"00000000-0000-0000-0000-000000000002","epoch":4294967297,"class":"overload","status":503,"latency_ms":1.5,"retry_after_ms":2000,"later_version":1},
            {"job_id":"00000000-0000-0000-0000-000000000003","epoch":4294967298,"class":"release"}]}"#;
        let request: SettleRequest = serde_json::from_str(text).unwrap();
        assert_eq!(request.outcomes[0].class, WireClass::Attempted(Class::Overload));
        assert_eq!(request.outcomes[0].epoch, Epoch::new(1, 1));
        assert_eq!(request.outcomes[1].class, WireClass::Release);
        assert_eq!(serde_json::to_value(request.outcomes[1].class).unwrap(), "release");
        assert_eq!(serde_json::to_value(WireClass::Attempted(Class::JobFail)).unwrap(), "job_fail");
        assert!(serde_json::from_str::<WireClass>(r#""nonsense""#).is_err());
    }
}
