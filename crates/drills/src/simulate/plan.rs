//! What happens in a simulated run, as data: who is there, what is asked, what fails, and until when.
//!
//! All chance beyond it (delays, losses) comes from the run's dice, so a plan with its seed is a whole run.

use std::ops::Range;

use jobs_core::destination::Destination;
use jobs_core::store::Retention;

use super::bug::Bug;
use super::destination::{Model, Weather};

/// Virtual microseconds since the run began.
pub type Us = u64;

pub const MS: Us = 1_000;
pub const SECOND: Us = 1_000_000;

/// A whole run.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub policy: RetryBy,
    pub sites: Vec<SitePlan>,
    /// The concurrency of each worker.
    pub workers: Vec<u32>,
    pub network: Network,
    /// How long a commit takes, from and below.
    pub commit: (Us, Us),
    pub retention: Retention,
    pub posts: Vec<Post>,
    pub acts: Vec<(Us, Act)>,
    pub faults: Vec<(Us, Fault)>,
    /// From here on nothing fails any more, but for jobs that are bad themselves.
    pub quiet: Us,
    /// So long after `quiet` every job has ended.
    pub bound: Us,
    /// How far the wall clock is set back in all: what was written down by it may wait as much longer.
    pub set_back: Us,
    /// Steps between two comparisons of all that is stored with all that was seen.
    pub audit_every: u64,
    pub bug: Option<Bug>,
}

/// Who decides when a job is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryBy {
    /// The gateway as it is: a gate for each destination.
    Gate,
    /// As in the original design: each job sleeps on its own timer, whatever the others find.
    Timers,
}

/// One destination.
#[derive(Debug, Clone)]
pub struct SitePlan {
    pub settings: Destination,
    pub model: Model,
    /// How long connecting takes, from and below.
    pub dial: (Us, Us),
    /// From each moment on, in order; before the first it is up.
    pub weather: Vec<(Us, Weather)>,
}

/// The way between gateway and everybody else, and between workers and destinations.
#[derive(Debug, Clone, Copy)]
pub struct Network {
    /// One way, from and below.
    pub delay: (Us, Us),
    /// Of a thousand calls to the gateway, how many lose their request, as many their answer.
    pub lost: u64,
    /// Of a thousand, how many arrive twice.
    pub repeated: u64,
}

/// One job, as its caller wants it.
#[derive(Debug, Clone)]
pub struct Post {
    pub site: usize,
    pub temper: Temper,
    /// Whether it has an idempotency key, and so is repeated until it is acknowledged.
    pub keyed: bool,
    pub delay: Us,
    pub priority: u8,
    pub ordering: Option<u8>,
    pub expires: Option<Us>,
    pub max_attempts: Option<u32>,
}

impl Post {
    /// A job without any wish of its own.
    pub fn plain(site: usize) -> Self {
        Post {
            site,
            temper: Temper::Good,
            keyed: true,
            delay: 0,
            priority: 0,
            ordering: None,
            expires: None,
            max_attempts: None,
        }
    }
}

/// What is special about a job to its destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Temper {
    Good,
    /// Its destination answers it with this, always.
    Answered(u16),
    /// Its destination answers it with this, so many times.
    AtFirst(u16, u32),
}

/// What clients and operators do.
#[derive(Debug, Clone)]
pub enum Act {
    /// These posts in one request.
    Post(Range<usize>),
    /// A post that was made comes again with its key, with the same body or another.
    PostAgain {
        pick: u64,
        other_body: bool,
    },
    Cancel {
        pick: u64,
    },
    Redrive {
        pick: u64,
        new_key: bool,
    },
    Pause(usize),
    Resume(usize),
    /// The settings are read again, without this destination.
    Remove(usize),
    /// And again, with it.
    Return(usize),
    /// A good job more, while there are others: by their fate those are judged.
    Trickle(usize),
    /// An operator looks after ordering keys that a dead job blocks.
    Unblock,
}

/// What fails.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// `forgets`: also what need not be durable.
    CrashGateway {
        down: Us,
        forgets: bool,
    },
    StallGateway(Us),
    CrashWorker {
        worker: usize,
        down: Us,
    },
    StallWorker {
        worker: usize,
        span: Us,
    },
    /// A worker reaches one destination no more.
    CutOff {
        worker: usize,
        site: usize,
        span: Us,
    },
    /// A worker reaches the gateway no more.
    CutFromGateway {
        worker: usize,
        span: Us,
    },
    /// The gateway's wall clock jumps by so many milliseconds.
    JumpClock(i64),
    /// The disk spoils a stored request.
    Rot {
        pick: u64,
    },
}
