//! Who may see and do what, with a browser.

use api1_gateway::auth::Keys;
use jobs_core::process::secret::Secret;

use super::{leads_to, page, refusal, secure_html, submit};
use crate::support::{Gateway, header, setup};

async fn guarded() -> Gateway {
    let secrets = |key: &str| vec![Secret::new(key.to_owned())];
    let mut setup = setup();
    setup.keys = Keys::new(&secrets("client-1"), &secrets("worker-1"), &secrets("operator;1"));
    Gateway::with(setup).await
}

/// The cookie that signing in with `key` leaves.
async fn signed_in(gateway: &Gateway, key: &str) -> String {
    let response = submit(gateway, "/sign-in", &[("key", key), ("next", "/jobs")]).send().await.unwrap();
    assert_eq!((response.status().as_u16(), header(&response, "location")), (303, "/jobs".to_owned()));
    let cookie = header(&response, "set-cookie");
    assert!(cookie.contains("; HttpOnly") && cookie.contains("; SameSite=Strict"), "{cookie}");
    assert!(!cookie.contains(key), "{cookie}");
    cookie.split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_form_from_another_site_is_refused_and_changes_nothing() {
    let gateway = Gateway::start().await;
    let id = gateway.accepted("{}").await;
    let paths = [
        "/destinations/api2/pause".to_owned(),
        format!("/jobs/{id}/cancel"),
        "/jobs/all".to_owned(),
        "/sign-in".to_owned(),
        "/sign-out".to_owned(),
    ];
    for path in &paths {
        let post =
            || gateway.post(path).header("content-type", "application/x-www-form-urlencoded").body("verb=cancel&key=x");
        refusal(post().header("origin", "http://evil.example"), 403).await;
        refusal(post().header("origin", "null"), 403).await;
        let origin = format!("http://{}", gateway.address);
        refusal(post().header("origin", origin).header("sec-fetch-site", "cross-site"), 403).await;
        refusal(post(), 403).await;
    }
    assert_eq!(gateway.job(&id).await["state"], "pending");
    assert!(page(gateway.get("/")).await.contains("Everything is getting through."));
}

#[tokio::test]
async fn with_keys_every_page_asks_to_sign_in_and_goes_on_where_it_was_asked_for() {
    let gateway = guarded().await;
    for path in [
        "/",
        "/jobs?state=dead",
        "/destinations/api2",
        "/jobs/01890a5d-ac96-774b-bcce-b302099a8057",
        "/jobs/all?verb=cancel",
    ] {
        let location = leads_to(gateway.get(path)).await;
        assert!(location.starts_with("/sign-in?next=%2F"), "{path}: {location}");
    }
    let html = page(gateway.get("/sign-in?next=%2Fjobs%3Fstate%3Ddead")).await;
    assert!(html.contains("name=\"next\" value=\"/jobs?state=dead\""), "{html}");
    let cookie = signed_in(&gateway, "operator;1").await;
    let html = page(gateway.get("/").header("cookie", &cookie)).await;
    assert!(html.contains("action=\"/sign-out\""), "{html}");
    let response = submit(&gateway, "/sign-out", &[]).header("cookie", &cookie).send().await.unwrap();
    assert!(header(&response, "set-cookie").contains("Max-Age=0"));
}

#[tokio::test]
async fn a_wrong_key_does_not_sign_in() {
    let gateway = guarded().await;
    for key in ["nonsense", "worker-1", ""] {
        let response = submit(&gateway, "/sign-in", &[("key", key)]).send().await.unwrap();
        assert_eq!((response.status().as_u16(), header(&response, "set-cookie")), (200, String::new()));
        assert!(secure_html(response).await.contains("role=\"alert\""));
    }
}

#[tokio::test]
async fn a_clients_key_reads_and_does_not_steer() {
    let gateway = guarded().await;
    let cookie = signed_in(&gateway, "client-1").await;
    let html = page(gateway.get("/destinations/api2").header("cookie", &cookie)).await;
    assert!(!html.contains("/pause"), "{html}");
    for path in ["/destinations/api2/pause", "/jobs/all", "/drill/api2/toggle"] {
        refusal(submit(&gateway, path, &[("verb", "cancel")]).header("cookie", &cookie), 403).await;
    }
    let operator = signed_in(&gateway, "operator;1").await;
    leads_to(submit(&gateway, "/destinations/api2/pause", &[]).header("cookie", &operator)).await;
}

#[tokio::test]
async fn the_cookie_opens_pages_and_events_and_not_the_api() {
    let gateway = guarded().await;
    let cookie = signed_in(&gateway, "operator;1").await;
    let status = async |path: &str| gateway.get(path).header("cookie", &cookie).send().await.unwrap().status().as_u16();
    assert_eq!(status("/api1/events").await, 200);
    assert_eq!(status("/api1/jobs").await, 401);
    assert_eq!(gateway.get("/api1/events").send().await.unwrap().status(), 401);
}
