//! Starts an api2-flaky inside the test, on free ports, and waits for effects.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use api2_flaky::drill::Weather;
use api2_flaky::server::{self, Options, ServeError};
use jobs_core::process::shutdown::Shutdown;
use tokio::task::JoinHandle;

use crate::client::{Answer, PATIENCE, Sent, call, send};

pub struct Api2 {
    pub service: SocketAddr,
    pub control: SocketAddr,
    pub shutdown: Shutdown,
    running: Option<JoinHandle<Result<(), ServeError>>>,
    runtime: tokio::runtime::Runtime,
}

impl Api2 {
    pub fn start(weather: Weather) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = || server::listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let (service, control) = (listener(), listener());
        let (service_address, control_address) = (service.local_addr().unwrap(), control.local_addr().unwrap());
        let shutdown = Shutdown::new();
        let options = Options { start: weather, grace: Duration::from_secs(2) };
        let running = Some(runtime.spawn(server::run(service, control, options, shutdown.clone())));
        Api2 { service: service_address, control: control_address, shutdown, running, runtime }
    }

    pub fn up() -> Self {
        Self::start(Weather::UP)
    }

    /// Sets the weather through the control port.
    pub fn set(&self, weather: &str) -> Answer {
        let answer = call(self.control, "PUT", "/api2/drill", &[], weather.as_bytes()).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer
    }

    pub fn simulate(&self, key: &str) -> io::Result<Answer> {
        call(self.service, "POST", "/api2/simulate", &[&format!("Idempotency-Key: {key}")], b"payload")
    }

    /// Sends a request to `simulate` and does not read the answer yet.
    pub fn send_simulate(&self, key: &str) -> Sent {
        let key = format!("Idempotency-Key: {key}");
        send(self.service, "POST", "/api2/simulate", &[&key, "Connection: close"], b"payload").unwrap()
    }

    pub fn get(&self, path: &str) -> Answer {
        call(self.control, "GET", path, &[], b"").unwrap()
    }

    pub fn ledger(&self) -> serde_json::Value {
        self.get("/api2/ledger").json()
    }

    /// Triggers the shutdown and waits for the end of the drain.
    pub fn stop(mut self) -> Result<(), ServeError> {
        self.shutdown.trigger();
        let running = self.running.take().unwrap();
        self.runtime.block_on(running).unwrap()
    }
}

/// Calls `try_it` until it gives something, and fails the test when that takes too long.
pub fn eventually<T>(what: &str, mut try_it: impl FnMut() -> Option<T>) -> T {
    #[expect(clippy::disallowed_methods, reason = "a test's deadline")]
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Some(found) = try_it() {
            return found;
        }
        std::thread::yield_now();
    }
    panic!("waited in vain: {what}");
}
