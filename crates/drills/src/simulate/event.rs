//! What can happen, and when: the entries of the queue.

use std::cmp::Ordering;
use std::ops::Range;

use jobs_core::job::DestinationName;
use jobs_core::lease::LeaseKey;

use super::destination::Reply;
use super::network::{Answer, Call, CallId, Caller, Request};
use super::plan::Us;

/// Something that happens.
#[derive(Debug)]
pub(super) enum Event {
    Act(usize),
    Fault(usize),
    /// A fault is over.
    Over(Ended),
    /// A request arrives at the gateway.
    Request(Call, Request),
    /// An answer arrives where it was waited for; `None`: the connection broke.
    Answer {
        call: CallId,
        to: Caller,
        answer: Option<Answer>,
    },
    /// The client tries a post again.
    PostAgain(Range<usize>),
    Gateway {
        life: u32,
        what: GatewayEvent,
    },
    Worker {
        worker: usize,
        life: u32,
        what: WorkerEvent,
    },
    /// A request arrives at its destination.
    Arrives {
        worker: usize,
        life: u32,
        attempt: u64,
        sent: Sent,
    },
    /// A destination has served a call, heard or not.
    Served(usize),
    /// The run is looked at, for the curves.
    Sample,
    /// All has been well for a while.
    AllIsWell,
}

#[derive(Debug)]
pub(super) enum Ended {
    Gateway,
    Worker(usize),
    CutOff { worker: usize, site: usize },
    CutFromGateway(usize),
}

#[derive(Debug)]
pub(super) enum GatewayEvent {
    Committed,
    Sweep,
    Purge,
    /// A parked claim looks whether there is something for it by now.
    Look,
    OutOfPatience(CallId),
    HungUp(CallId),
}

#[derive(Debug)]
pub(super) enum WorkerEvent {
    Claim {
        gathered: bool,
    },
    Report,
    Heartbeat,
    Connect(u64),
    /// The attempt came to this.
    Over(u64, Heard),
    Checked {
        destination: DestinationName,
        healthy: bool,
    },
}

/// What a worker hears of a call.
#[derive(Debug, Clone, Copy)]
pub(super) enum Heard {
    Refused,
    TimedOut,
    Answered(Reply),
}

/// A request as it reaches its destination.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) key: LeaseKey,
    pub(super) site: usize,
    pub(super) body: String,
    pub(super) deadline: Us,
}

/// An event in the queue; those of the same moment in the order in which they were put there.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) at: Us,
    pub(super) order: u64,
    pub(super) event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    /// The queue gives out its greatest entry: the earliest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}
