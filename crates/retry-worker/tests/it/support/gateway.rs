//! A gateway that grants what it is told to, keeps what it hears, and fails on command.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use jobs_core::job::StateName;
use jobs_core::lease::LeaseKey;
use jobs_core::outcome::Class;
use jobs_core::protocol::{
    ClaimRequest, ClaimResponse, ExtendRequest, ExtendResponse, SettleRequest, SettleResponse, WireClass, WireLease,
    WireOutcome, WireResult, WireSettled,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::http::{Request, Server, answer, read_request, write};
use super::until;

/// What the gateway does with a call instead of its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    Status(u16),
    /// Does the work, then closes the connection without an answer.
    LoseAnswer,
    /// Refuses every settle with an outcome of the job with this number.
    RefuseJob(u32),
    /// Writes the answer to a claim but for its end, and keeps the connection.
    NeverEnd,
    /// Writes an answer but for its end, and closes the connection.
    BreakOff,
}

#[derive(Default)]
pub(crate) struct Heard {
    /// Granted at the next claim, as many as it asks for.
    pub(crate) work: VecDeque<WireLease>,
    /// Goes into the next claim's answer, once.
    pub(crate) extra: ClaimResponse,
    /// The answer to every heartbeat; only what it lists of `lost` and `cancel` is told.
    pub(crate) extended: ExtendResponse,
    /// By verb.
    pub(crate) failures: BTreeMap<&'static str, Failure>,
    /// All claims, also those that wait or were dropped.
    pub(crate) claims: Vec<ClaimRequest>,
    pub(crate) claims_dropped: usize,
    pub(crate) granted: usize,
    pub(crate) heartbeats: Vec<ExtendRequest>,
    /// All settles whose body came whole, also those that were refused.
    pub(crate) offered: Vec<SettleRequest>,
    /// Those that were taken.
    pub(crate) taken: Vec<SettleRequest>,
    /// `Authorization` of every call.
    pub(crate) tokens: Vec<Option<String>>,
}

pub(crate) struct Gateway {
    server: Server,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    heard: Mutex<Heard>,
    work: Notify,
}

impl Gateway {
    pub(crate) async fn start() -> Gateway {
        Gateway::on(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn on(listener: TcpListener) -> Gateway {
        let shared = Arc::new(Shared::default());
        shared.heard().extended.lease_ms = 5_000;
        let serving = shared.clone();
        let server = Server::on(listener, move |stream| serve(stream, serving.clone()));
        Gateway { server, shared }
    }

    /// Ends like a killed process: the port refuses, and all connections are closed.
    pub(crate) fn kill(self) -> SocketAddr {
        self.server.address
    }

    /// A new one, which has heard nothing yet, where another was killed.
    pub(crate) async fn start_at(address: SocketAddr) -> Gateway {
        let bind = || std::net::TcpListener::bind(address).ok();
        let listener = until("the port is free again", bind).await;
        listener.set_nonblocking(true).unwrap();
        Gateway::on(TcpListener::from_std(listener).unwrap())
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.server.address)
    }

    pub(crate) fn heard(&self) -> MutexGuard<'_, Heard> {
        self.shared.heard()
    }

    /// Work for whoever claims next.
    pub(crate) fn grant(&self, leases: impl IntoIterator<Item = WireLease>) {
        self.heard().work.extend(leases);
        self.shared.work.notify_waiters();
    }

    /// All outcomes taken, in order.
    pub(crate) fn outcomes(&self) -> Vec<WireOutcome> {
        self.heard().taken.iter().flat_map(|request| request.outcomes.clone()).collect()
    }

    /// Waits for `count` outcomes, and answers them by job.
    pub(crate) async fn settled(&self, count: usize) -> Vec<WireOutcome> {
        let mut outcomes = until(&format!("{count} outcomes"), || {
            let outcomes = self.outcomes();
            (outcomes.len() >= count).then_some(outcomes)
        })
        .await;
        outcomes.sort_by_key(|outcome| outcome.job_id);
        assert_eq!(outcomes.len(), count, "no outcome is reported twice: {outcomes:#?}");
        outcomes
    }

    /// Makes the attempt of `lease` and answers its outcome.
    pub(crate) async fn attempt(&self, lease: WireLease) -> WireOutcome {
        let key = LeaseKey { job_id: lease.job_id, epoch: lease.epoch };
        self.grant([lease]);
        let same = |outcome: &WireOutcome| outcome.job_id == key.job_id && outcome.epoch == key.epoch;
        until("the outcome of a lease", || self.outcomes().into_iter().find(same)).await
    }
}

impl Shared {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap()
    }
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    while let Some(request) = read_request(&mut stream).await {
        assert_eq!(request.header("content-type"), Some("application/json"));
        shared.heard().tokens.push(request.header("authorization").map(ToOwned::to_owned));
        let verb = request.path.strip_prefix("/jobstore/v1/").expect("a route of the job store").to_owned();
        let body = match verb.as_str() {
            "claim" => claim(&mut stream, &request, &shared).await,
            "extend" => extend(&request, &shared),
            "settle" => settle(&request, &shared),
            other => panic!("no such verb: {other}"),
        };
        let Some(mut bytes) = body else { return };
        let breaks_off = shared.heard().failures.get(verb.as_str()) == Some(&Failure::BreakOff);
        if breaks_off {
            bytes.truncate(bytes.len() - 1);
        }
        if write(&mut stream, &bytes).await.is_err() || breaks_off {
            return;
        }
    }
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    answer(200, serde_json::to_vec(value).unwrap())
}

async fn claim(stream: &mut TcpStream, request: &Request, shared: &Shared) -> Option<Vec<u8>> {
    let request: ClaimRequest = serde_json::from_slice(&request.body).unwrap();
    let max = request.max as usize;
    shared.heard().claims.push(request);
    let response = loop {
        let mut woken = std::pin::pin!(shared.work.notified());
        woken.as_mut().enable();
        {
            let mut heard = shared.heard();
            if let Some(Failure::Status(status)) = heard.failures.get("claim") {
                return Some(answer(*status, r#"{"detail":"as the test asks"}"#));
            }
            let count = max.min(heard.work.len());
            let mut response = std::mem::take(&mut heard.extra);
            response.leases = heard.work.drain(..count).collect();
            if response != ClaimResponse::default() {
                heard.granted += count;
                match heard.failures.get("claim") {
                    Some(Failure::NeverEnd | Failure::BreakOff) => break response,
                    _ => return Some(json(&response)),
                }
            }
        }
        tokio::select! {
            () = woken => {}
            read = async { stream.peek(&mut [0]).await } => {
                assert!(!matches!(read, Ok(1..)), "nobody pipelines here");
                shared.heard().claims_dropped += 1;
                return None;
            }
        }
    };
    write(stream, &unended(&response)).await.unwrap();
    if shared.heard().failures.get("claim") == Some(&Failure::NeverEnd) {
        stream.peek(&mut [0]).await.ok();
    }
    None
}

/// An answer to a claim in lines, all but the last.
fn unended(response: &ClaimResponse) -> Vec<u8> {
    let head = serde_json::to_string(&ClaimResponse { leases: Vec::new(), ..response.clone() }).unwrap();
    let mut text = head.replacen("[]", "[\n", 1);
    text.truncate(text.find('\n').unwrap() + 1);
    let leases: Vec<String> =
        response.leases.iter().map(|lease| serde_json::to_string(lease).unwrap() + "\n").collect();
    text.push_str(&leases.join(","));
    format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{text}\r\n", text.len()).into_bytes()
}

fn extend(request: &Request, shared: &Shared) -> Option<Vec<u8>> {
    let request: ExtendRequest = serde_json::from_slice(&request.body).unwrap();
    let mut heard = shared.heard();
    let listed = |keys: &[LeaseKey]| keys.iter().filter(|key| request.holding.contains(key)).copied().collect();
    let mut response = heard.extended.clone();
    (response.lost, response.cancel) = (listed(&response.lost), listed(&response.cancel));
    heard.heartbeats.push(request);
    match heard.failures.get("extend") {
        Some(Failure::Status(status)) => Some(answer(*status, "")),
        Some(Failure::LoseAnswer | Failure::RefuseJob(_) | Failure::NeverEnd) => None,
        Some(Failure::BreakOff) | None => Some(json(&response)),
    }
}

fn settle(request: &Request, shared: &Shared) -> Option<Vec<u8>> {
    let request: SettleRequest = serde_json::from_slice(&request.body).unwrap();
    let mut heard = shared.heard();
    heard.offered.push(request.clone());
    let is = |job: u32| request.outcomes.iter().any(|outcome| outcome.job_id.0.as_u128() == job.into());
    let failure = heard.failures.get("settle").copied();
    match failure {
        Some(Failure::Status(status)) => return Some(answer(status, "")),
        Some(Failure::RefuseJob(job)) if is(job) => return Some(answer(413, r#"{"detail":"too much"}"#)),
        _ => {}
    }
    let results = request.outcomes.iter().map(result).collect();
    heard.taken.push(request);
    match failure {
        Some(Failure::LoseAnswer) => None,
        _ => Some(json(&SettleResponse { results })),
    }
}

fn result(outcome: &WireOutcome) -> WireSettled {
    let (state, retry_delay_ms) = match outcome.class {
        WireClass::Attempted(Class::Ok) => (StateName::Succeeded, None),
        WireClass::Attempted(Class::JobFail) => (StateName::Dead, None),
        WireClass::Attempted(_) => (StateName::Pending, Some(2_000)),
        WireClass::Release => (StateName::Pending, None),
    };
    WireSettled { job_id: outcome.job_id, result: WireResult::Ok, state: Some(state), attempts: 1, retry_delay_ms }
}
