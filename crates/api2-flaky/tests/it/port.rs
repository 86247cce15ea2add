use std::io::ErrorKind;
use std::net::TcpStream;

use crate::client::{call, send};
use crate::harness::{Api2, eventually};

#[test]
fn refuse_closes_the_port_and_its_connections_and_up_opens_it_again() {
    let api2 = Api2::up();
    let mut kept_alive = send(api2.service, "POST", "/api2/simulate", &[], b"").unwrap();
    assert!(kept_alive.read_some().unwrap().starts_with("HTTP/1.1 200"));

    api2.set(r#"{"mode":"refuse"}"#);
    assert_eq!(TcpStream::connect(api2.service).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let dropped =
        kept_alive.read_some().map_or_else(|error| error.kind() == ErrorKind::ConnectionReset, |rest| rest.is_empty());
    assert!(dropped, "the idle connection is dropped too");
    assert_eq!(api2.get("/api2/health").status, 503);
    assert_eq!(api2.get("/readyz").status, 200, "refusing is weather, not ill health");

    api2.set(r#"{"mode":"up"}"#);
    assert_eq!(api2.simulate("a").unwrap().status, 200);
    api2.stop().unwrap();
}

#[test]
fn the_weather_can_be_set_to_refuse_through_the_port_it_closes() {
    let api2 = Api2::up();
    let answer = call(api2.service, "PUT", "/api2/drill", &[], br#"{"mode":"refuse"}"#).unwrap();
    assert_eq!((answer.status, answer.json()), (200, serde_json::json!({"mode": "refuse"})));
    eventually("the port closes", || TcpStream::connect(api2.service).err());
    let toggled = call(api2.control, "POST", "/api2/toggle", &[], b"").unwrap();
    assert_eq!(toggled.text(), "API 2 failure mode = false");
    assert_eq!(api2.simulate("a").unwrap().status, 200);
}

#[test]
fn a_script_opens_the_port_again_when_its_time_has_come() {
    let api2 = Api2::up();
    api2.set(r#"{"mode":"script","steps":[{"for_ms":400,"mode":"refuse"},{"mode":"up"}]}"#);
    assert!(api2.simulate("a").is_err());
    let answer = eventually("the port opens", || api2.simulate("a").ok());
    assert_eq!(answer.status, 200);
}

#[test]
fn the_api_itself_is_not_on_the_control_port() {
    let api2 = Api2::up();
    assert_eq!(call(api2.control, "POST", "/api2/simulate", &[], b"").unwrap().status, 404);
    assert_eq!(call(api2.service, "GET", "/api2/ledger", &[], b"").unwrap().status, 200);
}

#[test]
fn a_shutdown_lets_go_of_what_hangs_and_ends() {
    let api2 = Api2::up();
    api2.set(r#"{"mode":"hang"}"#);
    let hanging = api2.send_simulate("a");
    eventually("the request hangs", || (api2.ledger()["in_flight"] == 1).then_some(()));
    api2.stop().unwrap();
    assert_eq!(hanging.answer().unwrap_err().kind(), ErrorKind::UnexpectedEof);
}
