//! Clients that send faster than the operator lets them.

use jobs_core::process::secret::Secret;
use serde_json::{Value, json};

use api1_gateway::auth::Keys;

use crate::support::{Gateway, answer, header, problem_of, setup};

#[tokio::test]
async fn who_sends_faster_than_allowed_is_told_when_to_come_again_and_nobody_else_is() {
    let mut setup = setup();
    setup.limits.max_accept_rate = std::num::NonZeroU32::new(1);
    let keys = ["fast", "calm"].map(|key| Secret::new(key.to_owned()));
    setup.keys = Keys::new(&keys, &[], &[]);
    let gateway = Gateway::with(setup).await;

    // More than a second's worth is taken at once and owed afterwards: for a quarter of an hour, so that no pause of this
    // machine lets anything else in.
    let batch: Vec<Value> = (0..1_000).map(|n| json!({"payload": n})).collect();
    answer(gateway.post("/api1/jobs").bearer_auth("fast").json(&batch), 202).await;
    for request in [
        gateway.process("{}").bearer_auth("fast"),
        gateway.process("{}").bearer_auth("fast").header("prefer", "wait=10"),
        gateway.post("/api1/process/other").bearer_auth("fast").body("x"),
        gateway.post("/api1/jobs").bearer_auth("fast").json(&json!({"payload": 1})),
        gateway.post("/forward/other/a").header("job-client-key", "fast").body("x"),
    ] {
        let response = request.send().await.unwrap();
        let seconds: u64 = header(&response, "retry-after").parse().expect("whole seconds");
        assert!((900..=1_000).contains(&seconds), "{seconds}");
        problem_of(response, 429, "rate_limited").await;
    }
    assert_eq!(answer(gateway.get("/api1/stats").bearer_auth("fast"), 200).await["accepted"], 1_000);
    answer(gateway.process("{}").bearer_auth("calm"), 202).await;
}
