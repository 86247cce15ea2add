//! Keys: who may do what, and whose idempotency keys are whose.

use api1_gateway::auth::Keys;
use jobs_core::process::secret::Secret;
use reqwest::{Method, RequestBuilder};
use serde_json::json;
use uuid::Uuid;

use crate::support::{Gateway, answer, header, id, problem, problem_of, setup};

fn secrets(keys: &[&str]) -> Vec<Secret> {
    keys.iter().map(|key| Secret::new((*key).to_owned())).collect()
}

async fn guarded() -> Gateway {
    let mut setup = setup();
    setup.keys = Keys::new(&secrets(&["client-1", "client-2"]), &secrets(&["worker-1"]), &secrets(&["operator-1"]));
    Gateway::with(setup).await
}

/// Status that a request has without a key, with an unknown one, a client's, a worker's and an operator's.
async fn statuses(request: impl Fn() -> RequestBuilder) -> Vec<u16> {
    let mut statuses = vec![request().send().await.unwrap().status().as_u16()];
    for key in ["nonsense", "client-1", "worker-1", "operator-1"] {
        statuses.push(request().bearer_auth(key).send().await.unwrap().status().as_u16());
    }
    statuses
}

#[tokio::test]
async fn each_role_may_do_its_part() {
    let gateway = guarded().await;
    let job = id(&answer(gateway.process("{}").bearer_auth("client-1"), 202).await);
    let process = || gateway.process("{}");
    assert_eq!(statuses(process).await, [401, 401, 202, 403, 202]);
    assert_eq!(statuses(|| gateway.post("/api1/jobs").json(&json!({"payload": 1}))).await, [401, 401, 202, 403, 202]);
    for path in [
        "/api1/jobs",
        "/api1/stats",
        "/api1/destinations",
        "/api1/destinations/api2",
        &format!("/api1/jobs/{job}"),
        &format!("/api1/jobs/{job}/payload"),
    ] {
        assert_eq!(statuses(|| gateway.get(path)).await, [401, 401, 200, 403, 200], "{path}");
    }
    // There is no answer yet: who may ask is told so.
    let response = format!("/api1/jobs/{job}/response");
    assert_eq!(statuses(|| gateway.get(&response)).await, [401, 401, 404, 403, 404]);
    assert_eq!(statuses(|| gateway.post(&format!("/api1/jobs/{job}/redrive"))).await, [401, 401, 403, 403, 200]);
    for verb in ["pause", "resume"] {
        let path = format!("/api1/destinations/api2/{verb}");
        assert_eq!(statuses(|| gateway.post(&path)).await, [401, 401, 403, 403, 200], "{verb}");
    }
    assert_eq!(statuses(|| gateway.post(&format!("/api1/jobs/{job}/cancel"))).await, [401, 401, 200, 403, 200]);
    for verb in ["claim", "settle", "extend"] {
        let message = json!({"worker": Uuid::nil(), "concurrency": 1, "max": 1});
        let path = format!("/jobstore/v1/{verb}");
        assert_eq!(statuses(|| gateway.post(&path).json(&message)).await, [401, 401, 403, 200, 403], "{verb}");
    }
    for path in ["/livez", "/readyz", "/metrics", "/problems"] {
        assert_eq!(statuses(|| gateway.get(path)).await, [200; 5], "{path}");
    }
}

#[tokio::test]
async fn a_refusal_says_which_scheme_and_is_a_problem() {
    let gateway = guarded().await;
    let response = gateway.process("{}").send().await.unwrap();
    assert_eq!(header(&response, "www-authenticate"), "Bearer");
    problem(gateway.process("{}"), 401, "unauthenticated").await;
    problem(gateway.process("{}").header("authorization", "Basic Y2xpZW50LTE="), 401, "unauthenticated").await;
    problem(gateway.process("{}").bearer_auth("worker-1"), 403, "forbidden").await;
}

#[tokio::test]
async fn a_forwarding_client_shows_its_key_in_a_header_of_ours() {
    let gateway = guarded().await;
    let forward = || gateway.request(Method::PUT, "/forward/other/x").body("x");
    for (request, said) in [
        (forward().bearer_auth("client-1"), "Job-Client-Key: send a key of this gateway in it"),
        (forward().header("job-client-key", "nonsense"), "Job-Client-Key: this key is not known here"),
    ] {
        let response = request.send().await.unwrap();
        assert_eq!(header(&response, "www-authenticate"), "Job-Client-Key", "never Bearer: that is the destination's");
        let refused = problem_of(response, 401, "unauthenticated").await;
        assert_eq!(refused["parameter"], "Job-Client-Key");
        assert!(refused["detail"].as_str().unwrap().starts_with(said), "{refused}");
    }
    problem(forward().header("job-client-key", "worker-1"), 403, "forbidden").await;
    answer(forward().header("job-client-key", "client-1").bearer_auth("theirs"), 202).await;
}

#[tokio::test]
async fn two_clients_may_use_the_same_idempotency_key() {
    let gateway = guarded().await;
    let send = async |client: &str, body: &'static str| {
        id(&answer(gateway.process(body).header("idempotency-key", "k").bearer_auth(client), 202).await)
    };
    let first = send("client-1", "{}").await;
    assert_ne!(send("client-2", "[]").await, first);
    assert_eq!(send("client-1", "{}").await, first);
}
