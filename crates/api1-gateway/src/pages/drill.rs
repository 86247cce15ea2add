//! `/drill/{name}`: the weather and the ledger of an api2-flaky, where one is configured as a destination.
//!
//! It is known by its path, `/api2/simulate`, which no real API has; it is asked here, on the server, at the address that is
//! configured and nowhere else, since a browser may not and often cannot. Where the weather closes that port, the control port
//! beside it (1,000 above, as by default) is asked instead.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use jobs_core::destination::Destination;
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder};
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::answer::{Refusal, page, see_other};
use super::body_view::BodyView;
use super::form::Form;
use super::shell::Shell;
use super::viewer::Viewer;
use super::words::count;
use crate::app::App;
use crate::problem::{Code, Problem};

/// It answers at once, or not at all.
const DEADLINE: Duration = Duration::from_secs(2);
/// Kept of an answer: its ledger of an hour by the second is some 200 KiB.
const MAX_ANSWER: usize = 1 << 20;
/// From the service port to the control port.
const TO_CONTROL: u16 = 1_000;

/// Weathers to choose from: the form's word, what it means, what is sent.
const WEATHERS: [(&str, &str, &str); 9] = [
    ("up", "Up: answers 200 at once", r#"{"mode":"up"}"#),
    ("down", "Down: answers 503", r#"{"mode":"down","status":503}"#),
    ("unauthorized", "Refuses all: answers 401", r#"{"mode":"down","status":401}"#),
    ("capacity", "Takes 100 a second, answers 503 beyond", r#"{"mode":"capacity","per_second":100}"#),
    ("slow", "Slow: answers after 2 s", r#"{"mode":"latency","ms":2000,"jitter_ms":500}"#),
    ("half", "Fails half: answers 500", r#"{"mode":"error_rate","rate":0.5,"status":500}"#),
    ("flapping", "Flaps: 5 s up, 5 s down", r#"{"mode":"flapping","up_ms":5000,"down_ms":5000}"#),
    ("hang", "Hangs: accepts and never answers", r#"{"mode":"hang"}"#),
    ("refuse", "Gone: does not listen", r#"{"mode":"refuse"}"#),
];

#[derive(Template)]
#[template(path = "drill.html")]
struct Page {
    shell: Shell,
    name: String,
    title: String,
    /// What it answered, or why it did not.
    found: Result<Found, String>,
    weathers: Vec<(&'static str, &'static str)>,
}

struct Found {
    weather: &'static str,
    json: String,
    is_up: bool,
    figures: Vec<(&'static str, String)>,
    by_status: Vec<(String, String)>,
}

/// `GET /api2/ledger`, as far as it is shown.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Ledger {
    requests: u64,
    accepted: u64,
    distinct: u64,
    duplicates: u64,
    in_flight: u64,
    most_in_flight: u64,
    by_status: BTreeMap<String, u64>,
}

/// Whether a destination is an api2-flaky.
pub(super) fn is_flaky(destination: &Destination) -> bool {
    let url = Url::parse(&destination.url);
    url.is_ok_and(|url| url.scheme() == "http" && url.path() == "/api2/simulate")
}

pub(super) async fn drill(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse, Refusal> {
    let viewer = Viewer::of(&app, &request)?;
    let (name, title, api) = find(&app, &request)?;
    let found = look(&api).await;
    let stats = app.store.stats().await?;
    page(&Page {
        shell: Shell::new(&app, &request, viewer, &stats, ("drill", format!("Weather of {title}"))),
        name,
        title,
        found,
        weathers: WEATHERS.iter().map(|(word, meaning, _)| (*word, *meaning)).collect(),
    })
}

/// What the page's forms do to it.
pub(super) async fn steer(
    app: web::Data<App>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Refusal> {
    Viewer::operator(&app, &request)?;
    let form = Form::read(&request, payload).await?;
    let (name, _, api) = find(&app, &request)?;
    let verb = request.match_info().get("verb").unwrap_or_default();
    let asked = match verb {
        "toggle" => ask(&api, Method::POST, "/api2/toggle", None).await,
        "clear" => ask(&api, Method::DELETE, "/api2/ledger", None).await,
        "weather" => {
            let word = form.get("weather").unwrap_or_default();
            let known = WEATHERS.iter().find(|(known, ..)| *known == word);
            let own = form.get("json");
            let body = own.or(known.map(|(.., body)| *body));
            let body = body.ok_or_else(|| Problem::with(Code::BadMessage, "weather", "choose one, or write one"))?;
            ask(&api, Method::PUT, "/api2/drill", Some(body.to_owned())).await
        }
        _ => return Err(Problem::new(Code::NoSuchRoute, "toggle, weather or clear").into()),
    };
    asked.map_err(|error| Problem::new(Code::BadMessage, format!("{name} did not take it: {error}")))?;
    log::info!(destination = name.as_str(), verb; "a drill was steered from the dashboard");
    Ok(see_other(&format!("/drill/{name}?said=weather")))
}

/// The destination's name and title, and where its steering is.
fn find(app: &App, request: &HttpRequest) -> Result<(String, String, Url), Problem> {
    let name = request.match_info().get("name").unwrap_or_default();
    let catalog = app.catalog();
    let settings = &catalog.find(name)?.settings;
    let none = || Problem::new(Code::NoSuchRoute, format!("{name} is no api2-flaky"));
    let url = Url::parse(&settings.url).ok().filter(|_| is_flaky(settings)).ok_or_else(none)?;
    Ok((name.to_owned(), settings.title.clone(), url))
}

async fn look(api: &Url) -> Result<Found, String> {
    let weather = ask(api, Method::GET, "/api2/drill", None).await?;
    let ledger = ask(api, Method::GET, "/api2/ledger", None).await?;
    let ledger: Ledger = serde_json::from_slice(&ledger).map_err(|error| format!("no ledger: {error}"))?;
    let mode: Value = serde_json::from_slice(&weather).map_err(|error| format!("no weather: {error}"))?;
    let number = |value: u64| count(value);
    Ok(Found {
        weather: in_words(mode["mode"].as_str().unwrap_or_default()),
        json: BodyView::new(&weather, None).text,
        is_up: mode["mode"] == "up",
        figures: vec![
            ("Requests", number(ledger.requests)),
            ("Done: keys answered 2xx", number(ledger.accepted)),
            ("Keys seen", number(ledger.distinct)),
            ("Done again: later 2xx for a key", number(ledger.duplicates)),
            ("In flight", format!("{}, at most {}", number(ledger.in_flight), number(ledger.most_in_flight))),
        ],
        by_status: ledger.by_status.into_iter().map(|(status, times)| (status, number(times))).collect(),
    })
}

fn in_words(mode: &str) -> &'static str {
    match mode {
        "up" => "up",
        "down" => "down",
        "capacity" => "of limited capacity",
        "latency" => "slow",
        "error_rate" => "failing at times",
        "flapping" => "flapping",
        "reset" => "resetting connections",
        "hang" => "hanging",
        "refuse" => "not listening",
        "script" => "following a script",
        _ => "in a weather unknown here",
    }
}

/// At the service port, or, where that is closed, at the control port.
async fn ask(api: &Url, method: Method, path: &str, body: Option<String>) -> Result<Vec<u8>, String> {
    let mut at = api.clone();
    at.set_path(path);
    at.set_query(None);
    let request = |at: &Url| {
        let request = CLIENT.request(method.clone(), at.clone()).header("content-type", "application/json");
        request.body(body.clone().unwrap_or_default())
    };
    match send(request(&at)).await {
        Err(Trouble::Unreachable(first)) => {
            let control = at.port_or_known_default().and_then(|port| port.checked_add(TO_CONTROL));
            at.set_port(control).map_err(|()| first.clone())?;
            send(request(&at)).await.map_err(|_| first)
        }
        Err(Trouble::Refused(why)) => Err(why),
        Ok(answer) => Ok(answer),
    }
}

enum Trouble {
    Unreachable(String),
    Refused(String),
}

async fn send(request: RequestBuilder) -> Result<Vec<u8>, Trouble> {
    let unreachable = |error: reqwest::Error| Trouble::Unreachable(error.without_url().to_string());
    let mut response = request.send().await.map_err(unreachable)?;
    let status = response.status();
    let mut answer = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if answer.len() + chunk.len() > MAX_ANSWER {
            return Err(Trouble::Refused("its answer is too large".to_owned()));
        }
        answer.extend_from_slice(&chunk);
    }
    if status.is_success() {
        return Ok(answer);
    }
    let text = String::from_utf8_lossy(&answer).chars().take(300).collect::<String>();
    Err(Trouble::Refused(format!("status {status}: {text}")))
}

/// Without certificates: a machine without any must do, and it is plain HTTP.
static CLIENT: LazyLock<Client> = LazyLock::new(|| {
    let builder = Client::builder().no_proxy().tls_certs_only([]).redirect(Policy::none()).referer(false);
    builder
        .timeout(DEADLINE)
        .retry(reqwest::retry::never())
        .build()
        .expect("a client without certificates can be built")
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_its_path_is_taken_for_an_api2_flaky() {
        let at = |url: &str| is_flaky(&Destination::new("x".parse().unwrap(), url.to_owned()));
        assert!(at("http://127.0.0.1:8082/api2/simulate") && at("http://api2-flaky:8082/api2/simulate"));
        for other in ["https://pay.example/v1", "http://pay.example/", "https://pay.example/api2/simulate"] {
            assert!(!at(other), "{other}");
        }
    }

    #[test]
    fn every_weather_that_can_be_chosen_is_json_with_a_mode_that_has_words() {
        for (_, _, body) in WEATHERS {
            let mode: Value = serde_json::from_str(body).unwrap();
            assert_ne!(in_words(mode["mode"].as_str().unwrap()), in_words("no such mode"));
        }
    }
}
