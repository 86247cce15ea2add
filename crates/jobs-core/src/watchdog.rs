//! Is work being handed out at all? A due job that nobody gets, although workers are there and its destination is not held, is
//! a fault of this system rather than of an API, and nothing else would show it.
//!
//! A backlog that drains is no such fault, however old its oldest job is: as long as any job of the destination is claimed now
//! and then, work is being handed out.

use std::time::Duration;

use crate::time::{Mono, Now, Timestamp};

/// What is seen of a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    /// By its gate or by hand.
    pub held: bool,
    /// When its oldest waiting job fell or falls due.
    pub oldest_due: Option<Timestamp>,
    pub workers: usize,
    /// Leases granted so far.
    pub claimed: u64,
}

/// One destination's watch.
#[derive(Debug, Clone, Copy, Default)]
pub struct Watch {
    claimed: u64,
    /// Since when all has been as if nobody handed out work.
    since: Option<Mono>,
}

impl Watch {
    /// For how long due work has not been handed out, as far as was seen; `None`: all is well.
    pub fn look(&mut self, seen: Sighting, now: Now) -> Option<Duration> {
        let is_due = seen.oldest_due.is_some_and(|due| due <= now.wall);
        let is_claimed = std::mem::replace(&mut self.claimed, seen.claimed) != seen.claimed;
        if !is_due || is_claimed || seen.held || seen.workers == 0 {
            self.since = None;
            return None;
        }
        let since = *self.since.get_or_insert(now.mono);
        Some(now.mono.since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: Now = Now { wall: Timestamp::from_millis(1_000_000), mono: Mono::from_millis(5_000) };

    fn due() -> Sighting {
        Sighting { held: false, oldest_due: Some(BEGIN.wall), workers: 1, claimed: 7 }
    }

    fn at(seconds: u64) -> Now {
        BEGIN.plus(Duration::from_secs(seconds))
    }

    /// What a second look says, a minute after a first one saw due work.
    fn a_minute_later(seen: Sighting) -> Option<Duration> {
        let mut watch = Watch::default();
        watch.look(due(), at(0));
        assert_eq!(watch.look(due(), at(1)), Some(Duration::ZERO), "the first look that sees no claim begins it");
        watch.look(seen, at(61))
    }

    #[test]
    fn due_work_that_nobody_gets_is_noticed_with_its_time() {
        assert_eq!(a_minute_later(due()), Some(Duration::from_secs(60)));
    }

    #[test]
    fn work_that_is_held_or_not_due_or_has_no_worker_or_is_being_handed_out_is_not() {
        for fine in [
            Sighting { held: true, ..due() },
            Sighting { oldest_due: None, ..due() },
            Sighting { oldest_due: Some(at(90).wall), ..due() },
            Sighting { workers: 0, ..due() },
            Sighting { claimed: 8, ..due() },
        ] {
            assert_eq!(a_minute_later(fine), None, "{fine:?}");
        }
    }
}
