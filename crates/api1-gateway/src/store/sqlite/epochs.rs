//! Which epochs may be issued.
//!
//! An epoch is (start number, counter), and every start number is durable before an epoch of it is issued: so epochs rise
//! across crashes although claims are not synced. The counter of one start lasts for 4,294,967,295 claims, about five days at
//! 10,000 a second; long before it runs over, a commit that is synced anyway makes the next start number durable too.

use jobs_core::job::Epoch;

/// The counter value from which on the next start number is asked for: half of them are left.
const LOW: u32 = u32::MAX / 2;

/// The epochs of one writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Epochs {
    last: Epoch,
    /// The highest start number that is durably taken.
    durable_start: u32,
}

impl Epochs {
    /// `start` has been made durable.
    pub(super) fn new(start: u32) -> Self {
        Epochs { last: Epoch::new(start, 0), durable_start: start }
    }

    /// The start number that epochs are issued under.
    pub(super) fn start(&self) -> u32 {
        u32::try_from(self.last.start()).unwrap_or(Epoch::MAX_START)
    }

    /// The last epoch issued; at first, what comes before the first of this start.
    pub(super) fn last(&self) -> Epoch {
        self.last
    }

    /// The epoch to issue next; `None` while its start number is not durable.
    pub(super) fn next(&self) -> Option<Epoch> {
        let next = Epoch::from_u64(self.last.as_u64() + 1);
        (next.start() <= u64::from(self.durable_start)).then_some(next)
    }

    pub(super) fn issued(&mut self, epoch: Epoch) {
        self.last = epoch;
    }

    /// The start number to make durable now, if it is time.
    pub(super) fn wanted_start(&self) -> Option<u32> {
        let is_low = self.last.as_u64() & u64::from(u32::MAX) > u64::from(LOW);
        (is_low && self.durable_start == self.start() && self.start() < Epoch::MAX_START).then(|| self.start() + 1)
    }

    /// A start number has become durable.
    pub(super) fn taken(&mut self, start: u32) {
        self.durable_start = start;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_the_counter_runs_over_the_next_start_number_is_used_once_it_is_durable() {
        let mut epochs = Epochs::new(3);
        assert_eq!((epochs.next(), epochs.wanted_start()), (Some(Epoch::new(3, 1)), None));
        epochs.issued(Epoch::new(3, u32::MAX));
        assert_eq!((epochs.next(), epochs.wanted_start()), (None, Some(4)));
        epochs.taken(4);
        assert_eq!((epochs.next(), epochs.wanted_start()), (Some(Epoch::new(4, 0)), None));
        epochs.issued(Epoch::new(4, 0));
        assert_eq!((epochs.start(), epochs.next()), (4, Some(Epoch::new(4, 1))));
    }

    #[test]
    fn the_last_start_number_has_no_next() {
        let mut epochs = Epochs::new(Epoch::MAX_START);
        epochs.issued(Epoch::new(Epoch::MAX_START, u32::MAX));
        assert_eq!((epochs.next(), epochs.wanted_start()), (None, None));
    }
}
