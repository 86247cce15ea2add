//! Models of destinations: what they can do, what the weather does to them, and what they saw.

use std::collections::VecDeque;

use super::dice::Dice;
use super::plan::{MS, SECOND, SitePlan, Temper, Us};

/// What a destination can do while it is up. Times are microseconds.
#[derive(Debug, Clone)]
pub enum Model {
    /// Anything, each call taking around this.
    Steady { service: Us },
    /// So many a second, `burst` at once; refuses the rest at once. Other clients take up to `noise` a second of it.
    Bucket { per_second: f64, burst: f64, service: Us, noise: f64 },
    /// So many at a time; refuses the rest at once.
    Concurrency { most: u32, service: Us },
    /// So many servers; all others wait in line.
    Queue { servers: usize, service: Us },
}

/// What happens to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Weather {
    Up,
    /// Nothing listens.
    Refused,
    /// Nothing answers, not even to say so.
    BlackHole,
    /// Takes the request and cuts the connection.
    Reset,
    /// Takes the request and never answers.
    Hang,
    /// Answers everything with this.
    Status {
        status: u16,
        retry_after: Option<Us>,
    },
    /// Answers so many of a hundred with this.
    Errors {
        status: u16,
        percent: u64,
    },
    /// Takes so many times as long.
    Slow(u64),
    /// Up and down (503) in turn.
    Flapping {
        up: Us,
        down: Us,
    },
    /// Can do so many times as much.
    Capacity(f64),
}

/// What comes of connecting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connection {
    Taken,
    Refused,
    Nothing,
}

/// What comes of a request that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    Status { after: Us, status: u16, retry_after: Option<Us> },
    Reset { after: Us },
    Silence,
}

/// Calls within a second of the run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Second {
    pub calls: u32,
    pub oks: u32,
    /// Answered 429 or 503.
    pub refused: u32,
}

/// A destination in a run.
#[derive(Debug)]
pub(super) struct Site {
    weather: Vec<(Us, Weather)>,
    model: Model,
    tokens: f64,
    filled: Us,
    busy: u32,
    free: Vec<Us>,
    pub(super) seconds: Vec<Second>,
    /// Of the latest second, to find the worst.
    latest: VecDeque<Us>,
    /// Most calls within any second that began in bad weather.
    pub(super) worst_while_down: usize,
    quiet: Us,
    /// Since all is well.
    pub(super) first_ok: Option<Us>,
    pub(super) quiet_calls: u64,
    pub(super) quiet_refused: u64,
    pub(super) last_ok: Us,
    pub(super) calls: u64,
    pub(super) oks: u64,
    pub(super) refused: u64,
}

impl Site {
    pub(super) fn new(plan: &SitePlan, quiet: Us) -> Self {
        let (tokens, servers) = match plan.model {
            Model::Bucket { burst, .. } => (burst, 0),
            Model::Queue { servers, .. } => (0.0, servers),
            Model::Steady { .. } | Model::Concurrency { .. } => (0.0, 0),
        };
        Site {
            weather: plan.weather.clone(),
            model: plan.model.clone(),
            tokens,
            filled: 0,
            busy: 0,
            free: vec![0; servers],
            seconds: Vec::new(),
            latest: VecDeque::new(),
            worst_while_down: 0,
            quiet,
            first_ok: None,
            quiet_calls: 0,
            quiet_refused: 0,
            last_ok: 0,
            calls: 0,
            oks: 0,
            refused: 0,
        }
    }

    pub(super) fn weather(&self, now: Us) -> Weather {
        let latest =
            self.weather.iter().rev().find(|(from, _)| *from <= now).map_or(Weather::Up, |(_, weather)| *weather);
        let Weather::Flapping { up, down } = latest else { return latest };
        if now % (up + down) < up { Weather::Up } else { Weather::Status { status: 503, retry_after: None } }
    }

    /// Whether nothing can succeed in the present weather.
    pub(super) fn is_down(&self, now: Us) -> bool {
        match self.weather(now) {
            Weather::Refused | Weather::BlackHole | Weather::Reset | Weather::Hang | Weather::Status { .. } => true,
            Weather::Up
            | Weather::Errors { .. }
            | Weather::Slow(_)
            | Weather::Flapping { .. }
            | Weather::Capacity(_) => false,
        }
    }

    pub(super) fn connect(&self, now: Us) -> Connection {
        match self.weather(now) {
            Weather::Refused => Connection::Refused,
            Weather::BlackHole => Connection::Nothing,
            Weather::Up
            | Weather::Reset
            | Weather::Hang
            | Weather::Status { .. }
            | Weather::Errors { .. }
            | Weather::Slow(_)
            | Weather::Flapping { .. }
            | Weather::Capacity(_) => Connection::Taken,
        }
    }

    /// Counts a call that reached out to it, whatever comes of it.
    pub(super) fn called(&mut self, now: Us) {
        self.calls += 1;
        self.quiet_calls += u64::from(now >= self.quiet);
        self.second(now).calls += 1;
        self.latest.push_back(now);
        while self.latest.front().is_some_and(|at| now - at >= SECOND) {
            self.latest.pop_front();
        }
        // A second after it went down, what had been on its way has arrived.
        if self.is_down(now) && self.is_down(now.saturating_sub(2 * SECOND)) && now >= 2 * SECOND {
            self.worst_while_down = self.worst_while_down.max(self.latest.len());
        }
    }

    /// A request of a job of `temper`, called the `nth` time (from 0), is received.
    pub(super) fn receive(&mut self, temper: Temper, nth: u32, now: Us, dice: &mut Dice) -> Reply {
        let weather = self.weather(now);
        let status = |status, retry_after| Reply::Status { after: MS, status, retry_after };
        let slower = match weather {
            Weather::Reset => return Reply::Reset { after: MS },
            Weather::Hang | Weather::BlackHole => return Reply::Silence,
            Weather::Refused => return Reply::Reset { after: MS },
            Weather::Status { status: code, retry_after } => {
                self.refused += u64::from(is_refusal(code));
                return status(code, retry_after);
            }
            Weather::Errors { status: code, percent } if dice.chance(percent) => return status(code, None),
            Weather::Slow(factor) => factor,
            Weather::Up | Weather::Errors { .. } | Weather::Flapping { .. } | Weather::Capacity(_) => 1,
        };
        match temper {
            Temper::Answered(code) => return status(code, None),
            Temper::AtFirst(code, times) if nth < times => return status(code, None),
            Temper::AtFirst(..) | Temper::Good => {}
        }
        let factor = if let Weather::Capacity(factor) = weather { factor } else { 1.0 };
        let Some(after) = self.serve(factor, now, dice) else {
            self.refused += 1;
            self.quiet_refused += u64::from(now >= self.quiet);
            self.second(now).refused += 1;
            return status(503, None);
        };
        self.oks += 1;
        self.last_ok = now;
        self.first_ok = self.first_ok.or(Some(now).filter(|now| *now >= self.quiet));
        self.second(now).oks += 1;
        Reply::Status { after: after * slower, status: 200, retry_after: None }
    }

    /// How long a call takes that is served; `None`: it is refused.
    fn serve(&mut self, factor: f64, now: Us, dice: &mut Dice) -> Option<Us> {
        match &self.model {
            Model::Steady { service } => Some(around(*service, dice)),
            Model::Bucket { per_second, burst, service, noise } => {
                let taken = noise * (1.0 + (0.7 * now as f64 / SECOND as f64).sin());
                let rate = per_second * factor - taken;
                self.tokens = (self.tokens + (now - self.filled) as f64 / SECOND as f64 * rate).clamp(0.0, *burst);
                self.filled = now;
                (self.tokens >= 1.0).then(|| {
                    self.tokens -= 1.0;
                    dice.exponential(*service as f64) as Us
                })
            }
            Model::Concurrency { most, service } => (self.busy < *most).then(|| {
                self.busy += 1;
                around(*service, dice)
            }),
            Model::Queue { service, .. } => {
                let next = self.free.iter_mut().min()?;
                *next = (*next).max(now) + dice.exponential(*service as f64) as Us;
                Some(*next - now)
            }
        }
    }

    /// A call that was served is over.
    pub(super) fn served(&mut self) {
        self.busy = self.busy.saturating_sub(1);
    }

    fn second(&mut self, now: Us) -> &mut Second {
        let index = (now / SECOND) as usize;
        if self.seconds.len() <= index {
            self.seconds.resize(index + 1, Second::default());
        }
        &mut self.seconds[index]
    }
}

fn is_refusal(status: u16) -> bool {
    matches!(status, 429 | 503)
}

/// Three tenths more or less.
fn around(service: Us, dice: &mut Dice) -> Us {
    (service as f64 * (0.7 + 0.6 * dice.unit())) as Us
}
