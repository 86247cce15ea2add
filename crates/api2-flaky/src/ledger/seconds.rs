//! Requests by second, for the rates of a drill: the worst second of an outage, the pace of a drain.

use std::collections::VecDeque;

use jobs_core::time::Timestamp;
use serde::Serialize;

/// How many seconds with traffic are kept: a quarter of an hour, longer than any drill.
const MAX_SECONDS: usize = 900;

/// One second of the wall clock in which something arrived or was answered 2xx.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Second {
    /// When it began.
    pub at: Timestamp,
    /// Requests that arrived in it.
    pub requests: u64,
    /// 2xx answered in it, whenever the request had arrived.
    pub ok: u64,
}

/// The latest seconds, oldest first; seconds without traffic are left out.
#[derive(Debug, Default)]
pub(super) struct Seconds(VecDeque<Second>);

impl Seconds {
    pub(super) fn request(&mut self, at: Timestamp) {
        self.second(at).requests += 1;
    }

    pub(super) fn ok(&mut self, at: Timestamp) {
        self.second(at).ok += 1;
    }

    pub(super) fn list(&self) -> Vec<Second> {
        self.0.iter().copied().collect()
    }

    fn second(&mut self, at: Timestamp) -> &mut Second {
        let at = Timestamp::from_millis(at.as_millis() / 1_000 * 1_000);
        // A wall clock set back adds to the latest second rather than reopening an old one.
        if self.0.back().is_none_or(|latest| latest.at < at) {
            if self.0.len() == MAX_SECONDS {
                self.0.pop_front();
            }
            self.0.push_back(Second { at, requests: 0, ok: 0 });
        }
        self.0.back_mut().expect("one was pushed if there was none")
    }
}
