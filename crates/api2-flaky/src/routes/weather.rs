//! Steering: the drill, the original's toggle, and the health check that feels the weather.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};

use super::{Side, WEATHER_LIMIT, read_body};
use crate::connection::{Break, broken};
use crate::drill::{self, Condition};
use crate::problem::Problem;
use crate::state::{Phase, State};

/// How long `PUT /api2/drill` waits for the service port to open or close: it takes milliseconds unless the port was taken.
const PORT_LIMIT: Duration = Duration::from_secs(2);

/// `GET /api2/drill`: the weather as it was ordered.
pub(super) async fn get_drill(state: Data<State>) -> HttpResponse {
    HttpResponse::Ok().json(state.order())
}

/// `PUT /api2/drill`: sets the weather, from now on. The same weather again starts it afresh.
///
/// Through the control port the answer comes once the service port is open or closed accordingly. Through the service port it
/// comes at once, since it could not once the port is closed.
pub(super) async fn put_drill(payload: Payload, state: Data<State>, side: Data<Side>) -> Result<HttpResponse, Problem> {
    let body = read_body(payload, WEATHER_LIMIT).await?;
    let order = drill::parse(&body)?;
    let text = serde_json::to_string(&order).expect("a weather has only text keys");
    log::info!(weather = text.as_str(); "the weather was set");
    let phase = state.set_weather(order.clone());
    settle(&state, **side, phase).await;
    Ok(HttpResponse::Ok().json(order))
}

/// `POST /api2/toggle`: flips between up and down, with the original's text.
pub(super) async fn toggle(state: Data<State>, side: Data<Side>) -> HttpResponse {
    let (down, phase) = state.toggle();
    log::info!(failure_mode = down; "toggled");
    settle(&state, **side, phase).await;
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(format!("API 2 failure mode = {down}"))
}

/// `GET /api2/health`: 200 if requests have a chance, else 503. Through the service port it also hangs and resets as they do.
pub(super) async fn health(request: HttpRequest, state: Data<State>, side: Data<Side>) -> HttpResponse {
    let condition = state.present().condition;
    match (condition, **side) {
        (Condition::Reset | Condition::Refuse, Side::Service) => broken(&request, Break::Reset),
        (Condition::Hang, Side::Service) => {
            state.weather_over().await;
            broken(&request, Break::Close)
        }
        _ => {
            let status = if condition.serves() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            HttpResponse::build(status).json(serde_json::json!({ "healthy": condition.serves() }))
        }
    }
}

async fn settle(state: &State, side: Side, phase: Phase) {
    if side == Side::Control {
        state.port_settled(phase, PORT_LIMIT).await;
    }
}
