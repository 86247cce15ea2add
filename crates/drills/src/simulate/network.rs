//! The way to the gateway: calls that take time, get lost, lose their answer, or arrive twice.
//!
//! A call is an HTTP call on a connection: whoever made it hears an answer or, sooner or later, that the connection broke, and
//! then does not know whether it was heard.

use std::ops::Range;

use jobs_core::job::JobId;
use jobs_core::protocol::{ClaimRequest, ClaimResponse, ExtendRequest, ExtendResponse, SettleRequest, SettleResponse};

use super::event::Event;
use super::plan::{MS, SECOND, Us};
use super::world::World;

pub(super) type CallId = u64;

/// How long it takes to find out that a connection is broken.
const BREAK_NOTICED: (Us, Us) = (MS, 2 * SECOND);
/// Between the two arrivals of a call that arrives twice.
const REPEATED_AFTER: (Us, Us) = (0, 3 * SECOND);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    Client,
    Worker { worker: usize, life: u32 },
}

/// A call as the gateway sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub(super) id: CallId,
    pub(super) from: Caller,
    loses_answer: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Request {
    /// These posts; the last flag: each with another body than the first time.
    Post(Range<usize>, bool),
    Cancel(JobId),
    Redrive(JobId, bool),
    Pause(usize),
    Resume(usize),
    Claim(ClaimRequest),
    Extend(ExtendRequest),
    Settle(SettleRequest),
}

/// What became of one post.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Receipt {
    Stored(JobId),
    KeyReused,
}

#[derive(Debug, Clone)]
pub(super) enum Answer {
    Posted(Vec<Receipt>),
    Steered,
    Claimed(ClaimResponse),
    Extended(ExtendResponse),
    Settled(SettleResponse),
}

impl World {
    /// Sends a request to the gateway. Whatever happens to it, the caller hears of this call, unless the gateway stands still.
    pub(super) fn send(&mut self, from: Caller, request: Request) -> CallId {
        self.last_call += 1;
        let id = self.last_call;
        let fate = if self.is_quiet() { 1_000 } else { self.dice.below(1_000) };
        let lost = self.plan.network.lost;
        let delay = self.delay();
        if fate < lost || self.is_cut(from) {
            self.broken(id, from);
            return id;
        }
        let call = Call { id, from, loses_answer: fate < 2 * lost };
        if (2 * lost..2 * lost + self.plan.network.repeated).contains(&fate) {
            let later = delay + self.dice.between(REPEATED_AFTER);
            self.after(later, Event::Request(call, request.clone()));
        }
        self.after(delay, Event::Request(call, request));
        id
    }

    /// The gateway answers a call.
    pub(super) fn answer(&mut self, call: Call, answer: Answer) {
        if call.loses_answer || self.is_cut(call.from) {
            self.broken(call.id, call.from);
        } else {
            let delay = self.delay();
            self.after(delay, Event::Answer { call: call.id, to: call.from, answer: Some(answer) });
        }
    }

    /// A call will be answered by nobody: its connection breaks.
    pub(super) fn broken(&mut self, call: CallId, to: Caller) {
        let after = self.dice.between(BREAK_NOTICED);
        self.after(after, Event::Answer { call, to, answer: None });
    }

    pub(super) fn delay(&mut self) -> Us {
        self.dice.between(self.plan.network.delay)
    }

    fn is_cut(&self, from: Caller) -> bool {
        match from {
            Caller::Client => false,
            Caller::Worker { worker, .. } => self.cut_from_gateway.contains(&worker),
        }
    }
}
