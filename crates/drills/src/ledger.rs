//! The client's ledger: every request a drill made, and every acknowledgement it got. The first of the four observers.
//!
//! It behaves as the contract asks of a client: whatever is not a 202 means *unknown*, and the request is repeated with the same
//! idempotency key. Only an acknowledged job can be lost; the others are the client's to repeat.

use std::collections::BTreeMap;
use std::time::Duration;

use jobs_core::job::JobId;
use jobs_core::process::clock;
use tokio::task::JoinSet;

use crate::client::{Accepted, CallError, Gateway};

/// How long a client waits before it repeats a request that was not acknowledged.
const REPEAT_PAUSE: Duration = Duration::from_millis(100);

/// Requests that [`post_all`] has under way at a time.
const POSTERS: usize = 16;

/// What one client posted.
#[derive(Debug, Clone, Default)]
pub struct ClientLedger {
    acknowledged: BTreeMap<String, JobId>,
    repeats: u64,
    replays: u64,
    contradictions: Vec<String>,
    unmarked: Vec<String>,
}

/// A request as the ledger's client makes it.
#[derive(Debug, Clone)]
pub struct Intent {
    pub key: String,
    pub body: String,
}

impl Intent {
    /// The request number `number` of the run `run`: its payload is chosen by `seed`, and so the same in every run with that seed.
    pub fn numbered(run: &str, number: u64, seed: u64) -> Self {
        let key = format!("drill-{run}-{number}");
        let filler = usize::try_from(mixed(seed, number) % MAX_FILLER).unwrap_or_default();
        let body = format!(r#"{{"name":"hello","number":{number},"filler":"{}"}}"#, "x".repeat(filler));
        Intent { key, body }
    }
}

/// Payloads differ in size, up to a little more than a packet.
const MAX_FILLER: u64 = 2_000;

/// SplitMix64 of seed and number: spreads neighbouring numbers over all values.
pub(crate) fn mixed(seed: u64, number: u64) -> u64 {
    let mut z = seed.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// How posting one request went.
#[derive(Debug)]
pub struct Posted {
    pub key: String,
    /// `None`: not acknowledged within the time given.
    pub id: Option<JobId>,
    pub replayed: bool,
    /// Requests made beyond the first.
    pub repeats: u64,
    /// Why the last request was not acknowledged, where it was not.
    pub last_failure: Option<String>,
}

/// Posts all of `intents`, several at a time, each as [`post`] does.
pub async fn post_all(gateway: &Gateway, destination: &str, intents: Vec<Intent>, within: Duration) -> ClientLedger {
    let mut posters = JoinSet::new();
    for share in intents.chunks(intents.len().div_ceil(POSTERS).max(1)) {
        let (gateway, destination, share) = (gateway.clone(), destination.to_owned(), share.to_vec());
        posters.spawn(async move {
            let mut client = ClientLedger::default();
            for intent in &share {
                client.note(post(&gateway, &destination, intent, within).await);
            }
            client
        });
    }
    let mut all = ClientLedger::default();
    for client in posters.join_all().await {
        all.merge(client);
    }
    all
}

/// Posts `intent` until it is acknowledged, or `within` is over.
pub async fn post(gateway: &Gateway, destination: &str, intent: &Intent, within: Duration) -> Posted {
    post_with(gateway, destination, intent, &[], within).await
}

/// As [`post`], of a job that is dead after so many charged attempts.
pub async fn post_limited(
    gateway: &Gateway,
    destination: &str,
    intent: &Intent,
    max_attempts: u32,
    within: Duration,
) -> Posted {
    post_with(gateway, destination, intent, &[("job-max-attempts", &max_attempts.to_string())], within).await
}

/// As [`post`], with more headers that say what is wanted of the job.
pub async fn post_with(
    gateway: &Gateway,
    destination: &str,
    intent: &Intent,
    options: &[(&str, &str)],
    within: Duration,
) -> Posted {
    let began = clock::instant();
    let mut posted = Posted { key: intent.key.clone(), id: None, replayed: false, repeats: 0, last_failure: None };
    loop {
        match acknowledged(gateway, destination, intent, options).await {
            Ok((id, replayed)) => {
                posted.id = Some(id);
                posted.replayed = replayed;
                return posted;
            }
            Err(failure) => posted.last_failure = Some(failure.to_string()),
        }
        if began.elapsed() >= within {
            return posted;
        }
        posted.repeats += 1;
        tokio::time::sleep(REPEAT_PAUSE).await;
    }
}

async fn acknowledged(
    gateway: &Gateway,
    destination: &str,
    intent: &Intent,
    options: &[(&str, &str)],
) -> Result<(JobId, bool), CallError> {
    let headers = [options, &[("idempotency-key", intent.key.as_str())]].concat();
    let answer = gateway.process(destination, &headers, &intent.body).await?;
    if answer.status != 202 {
        return Err(CallError::Status { url: answer.url, status: answer.status, body: answer.body });
    }
    let replayed = answer.replayed;
    Ok((answer.json::<Accepted>()?.id, replayed))
}

impl ClientLedger {
    /// Notes how posting a request went.
    pub fn note(&mut self, posted: Posted) {
        self.repeats += posted.repeats;
        self.replays += u64::from(posted.replayed);
        let Some(id) = posted.id else { return };
        if let Some(earlier) = self.acknowledged.insert(posted.key.clone(), id)
            && earlier != id
        {
            self.contradictions.push(posted.key);
        }
    }

    /// Notes how repeating a request went that had been acknowledged: the answer must name the same job, and say that it is one.
    pub fn note_repetition(&mut self, posted: Posted) {
        if posted.id.is_some() && !posted.replayed {
            self.unmarked.push(posted.key.clone());
        }
        self.note(posted);
    }

    /// Adds what another client posted, under other keys.
    pub fn merge(&mut self, other: ClientLedger) {
        self.acknowledged.extend(other.acknowledged);
        self.repeats += other.repeats;
        self.replays += other.replays;
        self.contradictions.extend(other.contradictions);
        self.unmarked.extend(other.unmarked);
    }

    /// The acknowledged jobs by idempotency key.
    pub fn acknowledged(&self) -> &BTreeMap<String, JobId> {
        &self.acknowledged
    }

    /// Requests that had to be repeated.
    pub fn repeats(&self) -> u64 {
        self.repeats
    }

    /// Acknowledgements of an earlier request under the same key.
    pub fn replays(&self) -> u64 {
        self.replays
    }

    /// Keys of requests that were repeated after their acknowledgement, and answered as if they came for the first time.
    pub fn unmarked(&self) -> &[String] {
        &self.unmarked
    }

    /// Keys that were acknowledged with two different jobs.
    pub fn contradictions(&self) -> &[String] {
        &self.contradictions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn posted(key: &str, id: u128) -> Posted {
        let id = Some(JobId(uuid::Uuid::from_u128(id)));
        Posted { key: key.to_owned(), id, replayed: false, repeats: 0, last_failure: None }
    }

    #[test]
    fn a_key_that_names_two_jobs_is_a_contradiction() {
        let mut ledger = ClientLedger::default();
        ledger.note(posted("a", 1));
        ledger.note(posted("a", 1));
        ledger.note(posted("b", 2));
        assert!(ledger.contradictions().is_empty());
        ledger.note(posted("b", 3));
        assert_eq!(ledger.contradictions(), ["b"]);
    }

    #[test]
    fn a_repetition_that_is_not_answered_as_one_is_noted() {
        let mut ledger = ClientLedger::default();
        ledger.note(posted("a", 1));
        ledger.note_repetition(Posted { replayed: true, ..posted("a", 1) });
        assert!(ledger.unmarked().is_empty());
        ledger.note_repetition(posted("a", 1));
        assert_eq!(ledger.unmarked(), ["a"]);
    }

    #[test]
    fn what_was_not_acknowledged_is_not_in_the_ledger() {
        let mut ledger = ClientLedger::default();
        ledger.note(Posted { id: None, repeats: 3, ..posted("a", 1) });
        assert!(ledger.acknowledged().is_empty());
        assert_eq!(ledger.repeats(), 3);
    }

    #[test]
    fn the_same_seed_makes_the_same_payloads_and_another_others() {
        let bodies = |seed| (0..20).map(|n| Intent::numbered("r", n, seed).body).collect::<Vec<_>>();
        assert_eq!(bodies(1), bodies(1));
        assert_ne!(bodies(1), bodies(2));
    }
}
