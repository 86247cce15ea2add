//! What all routes and listeners share: the running weather and the ledger, behind one lock held for microseconds.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jobs_core::process::clock::Clock;
use jobs_core::process::shutdown::Shutdown;
use jobs_core::time::{Now, Timestamp};
use serde::Serialize;
use tokio::sync::{Notify, watch};

use crate::drill::{Decision, Drill, Order, Present, Weather};
use crate::ledger::{Arrival, End, Ledger, Ticket};

/// Which weather a request met: rises with every weather set and every step of a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Phase {
    set: u64,
    step: usize,
}

/// The shared state of one api2-flaky.
#[derive(Debug)]
pub struct State {
    clock: Clock,
    pub shutdown: Shutdown,
    world: Mutex<World>,
    /// The phase the conductor has reached; requests that hang wait for it to pass theirs.
    reached: watch::Sender<Phase>,
    /// The phase for which the service port is as it should be, open or closed.
    settled: watch::Sender<Phase>,
    weather_was_set: Notify,
}

#[derive(Debug)]
struct World {
    drill: Drill,
    set: u64,
    since: SinceWeather,
    /// Requests being served: decided to be answered 2xx, and not answered yet.
    serving: u32,
    ledger: Ledger,
}

impl World {
    fn set_weather(&mut self, order: Order, now: Now) -> Phase {
        self.drill = Drill::start(order, now.mono);
        self.set += 1;
        self.since = SinceWeather::new(now);
        self.phase(now)
    }

    fn phase(&self, now: Now) -> Phase {
        Phase { set: self.set, step: self.drill.present(now.mono).step }
    }
}

/// What happened since the weather was set, to measure how fast a change is noticed.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct SinceWeather {
    pub set_at: Timestamp,
    pub requests: u64,
    pub first_request_at: Option<Timestamp>,
    pub first_ok_at: Option<Timestamp>,
}

impl SinceWeather {
    fn new(now: Now) -> Self {
        SinceWeather { set_at: now.wall, requests: 0, first_request_at: None, first_ok_at: None }
    }
}

impl State {
    /// Starts with the weather `start`.
    pub fn new(start: Weather, clock: Clock, shutdown: Shutdown) -> Self {
        let now = clock.now();
        let world = World {
            drill: Drill::start(start.into(), now.mono),
            set: 0,
            since: SinceWeather::new(now),
            serving: 0,
            ledger: Ledger::default(),
        };
        State {
            clock,
            shutdown,
            world: Mutex::new(world),
            reached: watch::Sender::new(Phase::default()),
            settled: watch::Sender::new(Phase::default()),
            weather_was_set: Notify::new(),
        }
    }

    /// Notes a request in the ledger and decides what happens to it.
    pub fn arrive(&self, arrival: Arrival<'_>) -> Visit<'_> {
        let now = self.clock.now();
        let mut guard = self.world();
        let world = &mut *guard;
        let ticket = world.ledger.arrived(now.wall, arrival);
        world.since.requests += 1;
        world.since.first_request_at.get_or_insert(now.wall);
        let decision = world.drill.decide(now.mono, world.serving);
        world.serving += u32::from(decision.serves());
        let phase = world.phase(now);
        Visit { state: self, ticket, decision, phase, ended: false }
    }

    /// Sets the weather; it begins now. Returns the phase it begins with.
    pub fn set_weather(&self, order: Order) -> Phase {
        let now = self.clock.now();
        let phase = self.world().set_weather(order, now);
        self.weather_was_set.notify_one();
        phase
    }

    /// Flips between up and down, whichever the present condition is closer to. Returns whether it is down now, and the phase.
    pub fn toggle(&self) -> (bool, Phase) {
        let now = self.clock.now();
        let mut world = self.world();
        let down = world.drill.present(now.mono).condition.serves();
        let phase = world.set_weather(if down { Weather::DOWN } else { Weather::UP }.into(), now);
        drop(world);
        self.weather_was_set.notify_one();
        (down, phase)
    }

    /// The weather as it was ordered.
    pub fn order(&self) -> Order {
        self.world().drill.order().clone()
    }

    /// What holds now.
    pub fn present(&self) -> Present {
        let now = self.clock.now();
        self.world().drill.present(now.mono)
    }

    pub fn since_weather(&self) -> SinceWeather {
        self.world().since
    }

    /// Reads or changes the ledger.
    pub fn ledger<T>(&self, with: impl FnOnce(&mut Ledger) -> T) -> T {
        with(&mut self.world().ledger)
    }

    /// Lets go of what hung in an earlier phase. Returns the phase that holds now and its condition.
    pub fn reach_present(&self) -> (Phase, Present) {
        let now = self.clock.now();
        let world = self.world();
        let (phase, present) = (world.phase(now), world.drill.present(now.mono));
        drop(world);
        self.reached.send_if_modified(|reached| std::mem::replace(reached, phase) != phase);
        (phase, present)
    }

    /// Notes that the service port is as `phase` wants it.
    pub fn port_has_settled(&self, phase: Phase) {
        self.settled.send_replace(phase);
    }

    /// Waits until the service port is as `phase` wants it, at most `limit`.
    pub async fn port_settled(&self, phase: Phase, limit: Duration) {
        let mut settled = self.settled.subscribe();
        if tokio::time::timeout(limit, settled.wait_for(|settled| *settled >= phase)).await.is_err() {
            log::warn!("the service port is not yet as the weather wants it");
        }
    }

    /// Resolves when the weather of the moment is over, or the process shuts down.
    pub async fn weather_over(&self) {
        let now = self.clock.now();
        let phase = self.world().phase(now);
        self.phase_over(phase).await;
    }

    async fn phase_over(&self, phase: Phase) {
        let mut reached = self.reached.subscribe();
        tokio::select! {
            over = reached.wait_for(|reached| *reached > phase) => drop(over),
            () = self.shutdown.wait() => {}
        }
    }

    /// Resolves when the weather has been set since the last call resolved.
    pub async fn weather_set(&self) {
        self.weather_was_set.notified().await;
    }

    fn world(&self) -> MutexGuard<'_, World> {
        // A panic while the lock was held leaves counters at worst one off: better than answering nothing from then on.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request between its arrival and its end. If it is dropped before, the client or the port has gone: it was abandoned.
#[derive(Debug)]
pub struct Visit<'a> {
    state: &'a State,
    ticket: Ticket,
    pub decision: Decision,
    phase: Phase,
    ended: bool,
}

impl Visit<'_> {
    /// Notes how the request ends, just before it does.
    pub fn end(mut self, end: End) {
        self.note(end);
    }

    /// Resolves when the weather this request met is over, or the process shuts down.
    pub async fn weather_over(&self) {
        self.state.phase_over(self.phase).await;
    }

    fn note(&mut self, end: End) {
        self.ended = true;
        let now = self.state.clock.now();
        let mut guard = self.state.world();
        let world = &mut *guard;
        world.serving -= u32::from(self.decision.serves());
        world.ledger.ended(now.wall, &self.ticket, end);
        if self.phase.set == world.set && matches!(end, End::Answered(200..=299)) {
            world.since.first_ok_at.get_or_insert(now.wall);
        }
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.note(End::Abandoned);
        }
    }
}
