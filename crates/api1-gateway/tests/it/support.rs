//! A gateway on a free port, and what is needed to talk to it.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use api1_gateway::app::{Limits, Setup};
use api1_gateway::auth::Keys;
use api1_gateway::server::{self, ServeError};
use api1_gateway::store::sqlite::SqliteStore;
use jobs_core::destination::Destination;
use jobs_core::memory::MemoryStore;
use jobs_core::process::clock::{self, Clock};
use jobs_core::process::shutdown::Shutdown;
use jobs_core::store::JobStore;
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// Longest that a test waits for an effect. Far beyond what any takes, so that a slow machine fails no test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    pub(crate) client: Client,
    pub(crate) shutdown: Shutdown,
    pub(crate) serving: JoinHandle<Result<(), ServeError>>,
}

/// Two destinations, `api2` (the default) and `other`; nobody listens there.
pub(crate) fn setup() -> Setup {
    let destination = |name: &str, path: &str| {
        let destination = Destination::new(name.parse().unwrap(), format!("http://127.0.0.1:1{path}"));
        (destination.name.clone(), Arc::new(destination))
    };
    Setup {
        destinations: BTreeMap::from([destination("api2", "/api2/simulate"), destination("other", "/base")]),
        default_destination: Some("api2".parse().unwrap()),
        keys: Keys::default(),
        limits: Limits { min_free: 0, ..Limits::default() },
    }
}

/// Changes one destination of a setup.
pub(crate) fn adjust(setup: &mut Setup, name: &str, change: impl FnOnce(&mut Destination)) {
    let destination = setup.destinations.get_mut(name).unwrap();
    change(Arc::make_mut(destination));
}

pub(crate) fn client() -> Client {
    // No certificates: a machine without any must do, since everything here is loopback.
    Client::builder().no_proxy().tls_certs_only([]).redirect(Policy::none()).build().unwrap()
}

impl Gateway {
    pub(crate) async fn start() -> Self {
        Self::with(setup()).await
    }

    pub(crate) async fn with(setup: Setup) -> Self {
        Self::on(Arc::new(MemoryStore::new()), setup).await
    }

    pub(crate) async fn on(store: Arc<dyn JobStore>, setup: Setup) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let serving = tokio::spawn(server::run(listener, setup, store, Clock::new(), shutdown.clone()));
        Gateway { address, client: client(), shutdown, serving }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.address))
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.request(Method::GET, path)
    }

    pub(crate) fn post(&self, path: &str) -> RequestBuilder {
        self.request(Method::POST, path)
    }

    /// A request to `POST /api1/process` with a JSON body.
    pub(crate) fn process(&self, body: impl Into<reqwest::Body>) -> RequestBuilder {
        self.post("/api1/process").header("content-type", "application/json").body(body)
    }

    /// The id of a newly accepted job.
    pub(crate) async fn accepted(&self, body: impl Into<reqwest::Body>) -> String {
        id(&answer(self.process(body), 202).await)
    }

    pub(crate) async fn job(&self, id: &str) -> Value {
        answer(self.get(&format!("/api1/jobs/{id}")), 200).await
    }

    /// Asks until the job is in `state`.
    pub(crate) async fn job_becomes(&self, id: &str, state: &str) -> Value {
        eventually(&format!("job {id} becomes {state}"), async || {
            let job = self.job(id).await;
            (job["state"] == state).then_some(job)
        })
        .await
    }

    /// The value of a metric without labels.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let text = self.get("/metrics").send().await.unwrap().text().await.unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
    }

    pub(crate) async fn metric_becomes(&self, name: &str, wanted: u64) {
        eventually(&format!("{name} becomes {wanted}"), async || (self.metric(name).await == wanted).then_some(()))
            .await;
    }
}

pub(crate) async fn on_sqlite(path: &Path) -> Gateway {
    let store = SqliteStore::open(path, Clock::new().now()).unwrap();
    Gateway::on(Arc::new(store), setup()).await
}

/// Asks again and again until `look` finds something; fails after [`PATIENCE`].
pub(crate) async fn eventually<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let deadline = clock::instant() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(clock::instant() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn id(answer: &Value) -> String {
    answer["id"].as_str().unwrap_or_else(|| panic!("no id in {answer}")).to_owned()
}

/// The JSON of an answer that must have `status`.
pub(crate) async fn answer(request: RequestBuilder, status: u16) -> Value {
    json_of(request.send().await.unwrap(), status).await
}

pub(crate) async fn json_of(response: Response, status: u16) -> Value {
    let (found, kind) = (response.status(), header(&response, "content-type"));
    let text = response.text().await.unwrap();
    assert_eq!(found, StatusCode::from_u16(status).unwrap(), "{text}");
    assert_eq!(kind, "application/json", "{text}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// An answer that must be a problem with this status and code.
pub(crate) async fn problem(request: RequestBuilder, status: u16, code: &str) -> Value {
    problem_of(request.send().await.unwrap(), status, code).await
}

pub(crate) async fn problem_of(response: Response, status: u16, code: &str) -> Value {
    let (found, kind) = (response.status(), header(&response, "content-type"));
    let retry_after = response.headers().contains_key("retry-after");
    let text = response.text().await.unwrap();
    assert_eq!(found, StatusCode::from_u16(status).unwrap(), "{text}");
    assert_eq!(kind, "application/problem+json", "{text}");
    let problem: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&problem["code"], &problem["status"]), (&json!(code), &json!(status)), "{text}");
    assert_eq!(problem["type"], format!("/problems/{code}"));
    assert!(problem["title"].is_string() && problem["detail"].is_string(), "{text}");
    assert_eq!(retry_after, matches!(status, 429 | 503), "{text}");
    problem
}

pub(crate) fn header(response: &Response, name: &str) -> String {
    response.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

/// A worker's side of the job store.
pub(crate) struct Worker<'a> {
    pub(crate) gateway: &'a Gateway,
    pub(crate) id: String,
}

impl<'a> Worker<'a> {
    pub(crate) fn new(gateway: &'a Gateway) -> Self {
        Worker { gateway, id: clock::new_uuid().to_string() }
    }

    pub(crate) fn claim_request(&self, max: u64, wait_ms: u64) -> RequestBuilder {
        let asked = json!({"worker": self.id, "concurrency": 256, "max": max, "wait_ms": wait_ms});
        self.gateway.post("/jobstore/v1/claim").json(&asked)
    }

    pub(crate) async fn claim(&self, max: u64, wait_ms: u64) -> Vec<Value> {
        let answer = answer(self.claim_request(max, wait_ms), 200).await;
        answer["leases"].as_array().unwrap().clone()
    }

    /// The one lease that there is to claim.
    pub(crate) async fn claim_one(&self) -> Value {
        let leases = self.claim(10, 10_000).await;
        assert_eq!(leases.len(), 1, "{leases:?}");
        leases[0].clone()
    }

    /// The results of settling.
    pub(crate) async fn settle(&self, outcomes: Value) -> Vec<Value> {
        let report = json!({"worker": self.id, "outcomes": outcomes});
        let answer = answer(self.gateway.post("/jobstore/v1/settle").json(&report), 200).await;
        answer["results"].as_array().unwrap().clone()
    }

    /// Settles one lease with an outcome of `class`.
    pub(crate) async fn report(&self, lease: &Value, class: &str) -> Value {
        let outcome = json!({"job_id": lease["job_id"], "epoch": lease["epoch"], "class": class, "latency_ms": 1.5});
        self.settle(json!([outcome])).await.remove(0)
    }

    pub(crate) async fn extend(&self, holding: Value) -> Value {
        let request = json!({"worker": self.id, "holding": holding});
        answer(self.gateway.post("/jobstore/v1/extend").json(&request), 200).await
    }
}
