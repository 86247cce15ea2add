//! Listens, and conducts the weather: opens and closes the service port, and moves a script on when its time has come.
//!
//! Closing the port means stopping the whole HTTP server behind it: the listening socket goes, and every connection with it.
//! The control port has a server of its own that stays.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer, web};
use jobs_core::process::clock::Clock;
use jobs_core::process::shutdown::Shutdown;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::task::JoinHandle;

use crate::connection;
use crate::drill::{Condition, Present, Weather};
use crate::routes::{self, Side};
use crate::state::State;

/// Connections the kernel holds until we accept them: a whole fleet of workers may connect at once after an outage.
const BACKLOG: i32 = 1_024;

/// The port closes this much after the weather turned to `refuse`, so that the answer to the request that asked for it, if it
/// came through that port, still leaves. Requests to the API in between are reset.
const CLOSING_DELAY: Duration = Duration::from_millis(50);

/// How soon binding the port is tried again when another process has taken it meanwhile.
const REBIND_PAUSE: Duration = Duration::from_millis(100);

/// How long an idle connection is kept: above the minute for which clients usually pool theirs, so that it is they who close.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// Steering needs little.
const CONTROL_THREADS: usize = 1;

/// Why the service ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("the server of the {side:?} port failed: {source}")]
    Server { side: Side, source: io::Error },
    #[error("the server of the {0:?} port ended by itself")]
    Ended(Side),
}

/// What [`run`] needs beside its listeners.
#[derive(Debug, Clone)]
pub struct Options {
    pub start: Weather,
    /// How long requests may take to end once the shutdown is triggered.
    pub grace: Duration,
}

/// Listens on `address`; a port that was just closed can be bound again at once. Port 0 means any free port.
///
/// # Errors
/// [`ServeError::Listen`] when the address is taken or not ours.
pub fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    let bind = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    bind().map_err(|source| ServeError::Listen { address, source })
}

/// Serves until the shutdown is triggered and the drain is over. Call it inside a multi-threaded tokio runtime.
///
/// # Errors
/// [`ServeError`] when one of the two servers cannot start or ends by itself.
pub async fn run(
    service: TcpListener,
    control: TcpListener,
    options: Options,
    shutdown: Shutdown,
) -> Result<(), ServeError> {
    let address = |listener: &TcpListener| listener.local_addr().expect("a listening socket has an address");
    let (service_address, control_address) = (address(&service), address(&control));
    let state = web::Data::new(State::new(options.start.clone(), Clock::new(), shutdown));
    let mut control = Server::start(Side::Control, control, &state, options.grace)?;
    let service = Server::start(Side::Service, service, &state, options.grace)?;
    log::info!(api:% = service_address, control:% = control_address; "listening");

    let mut conductor =
        Conductor { state: state.clone(), address: service_address, grace: options.grace, service: Some(service) };
    let result = tokio::select! {
        result = conductor.conduct() => result,
        error = control.ended() => Err(error),
    };
    log::info!("draining");
    tokio::join!(control.drain(), async {
        if let Some(service) = conductor.service.take() {
            service.drain().await;
        }
    });
    result
}

/// One HTTP server behind one listener.
struct Server {
    side: Side,
    handle: ServerHandle,
    task: JoinHandle<io::Result<()>>,
}

impl Server {
    fn start(side: Side, listener: TcpListener, state: &web::Data<State>, grace: Duration) -> Result<Self, ServeError> {
        let state = state.clone();
        let app = move || {
            App::new().app_data(state.clone()).app_data(web::Data::new(side)).configure(routes::configure(side))
        };
        let mut server = HttpServer::new(app)
            .on_connect(connection::remember)
            .tcp_nodelay(true)
            .keep_alive(KEEP_ALIVE)
            // A client that hangs up ends its request: a hanging one would wait forever otherwise.
            .h1_allow_half_closed(false)
            .disable_signals()
            // actix counts in whole seconds.
            .shutdown_timeout(u64::try_from(grace.as_millis().div_ceil(1_000)).unwrap_or(u64::MAX));
        if side == Side::Control {
            server = server.workers(CONTROL_THREADS);
        }
        let server = server.listen(listener).map_err(|source| ServeError::Server { side, source })?.run();
        Ok(Server { side, handle: server.handle(), task: tokio::spawn(server) })
    }

    /// Resolves only if the server ends without being told to.
    async fn ended(&mut self) -> ServeError {
        match (&mut self.task).await {
            Ok(Ok(())) => ServeError::Ended(self.side),
            Ok(Err(source)) => ServeError::Server { side: self.side, source },
            Err(panicked) => ServeError::Server { side: self.side, source: io::Error::other(panicked) },
        }
    }

    /// Closes the listener and every connection now.
    async fn close(self) {
        self.handle.stop(false).await;
    }

    /// Closes the listener, and the connections once their requests have ended or the grace is over.
    async fn drain(self) {
        self.handle.stop(true).await;
    }
}

/// Follows the weather through time.
struct Conductor {
    state: web::Data<State>,
    address: SocketAddr,
    grace: Duration,
    service: Option<Server>,
}

impl Conductor {
    /// Resolves when the shutdown is triggered, or the service port's server ends by itself.
    async fn conduct(&mut self) -> Result<(), ServeError> {
        let state = Arc::clone(&self.state);
        loop {
            let (phase, present) = state.reach_present();
            let settled = self.settle_port(present).await;
            if settled {
                state.port_has_settled(phase);
            }
            let wake_in = if settled { present.changes_in } else { Some(REBIND_PAUSE) };
            tokio::select! {
                () = state.shutdown.wait() => return Ok(()),
                () = state.weather_set() => {}
                () = sleep_or_never(wake_in) => {}
                error = ended_or_never(&mut self.service) => return Err(error),
            }
        }
    }

    /// Opens or closes the service port as the present condition wants it. False if it could not be opened yet.
    async fn settle_port(&mut self, present: Present) -> bool {
        let refuse = present.condition == Condition::Refuse;
        match self.service.take() {
            Some(service) if refuse => {
                tokio::time::sleep(CLOSING_DELAY).await;
                service.close().await;
                log::info!(address:% = self.address; "the service port is closed");
                true
            }
            None if !refuse => {
                let opened = listen(self.address)
                    .and_then(|listener| Server::start(Side::Service, listener, &self.state, self.grace));
                match opened {
                    Ok(service) => {
                        self.service = Some(service);
                        log::info!(address:% = self.address; "the service port is open again");
                        true
                    }
                    Err(error) => {
                        log::warn!(error:% = error; "cannot open the service port yet");
                        false
                    }
                }
            }
            unchanged => {
                self.service = unchanged;
                true
            }
        }
    }
}

async fn sleep_or_never(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}

async fn ended_or_never(server: &mut Option<Server>) -> ServeError {
    match server {
        Some(server) => server.ended().await,
        None => std::future::pending().await,
    }
}
