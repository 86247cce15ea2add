//! The only place that reads a clock or draws a random id; everything else takes them as arguments.
#![expect(clippy::disallowed_methods, reason = "this is the one place the ban in clippy.toml points to")]

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use uuid::Uuid;

use crate::time::{Mono, Now, Timestamp};

/// The process's clock: the wall clock, and a monotonic clock whose origin is the moment of [`Clock::new`].
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that starts now. Make one per process: moments of two clocks cannot be compared.
    #[expect(clippy::new_without_default, reason = "a default that reads the time would surprise")]
    pub fn new() -> Self {
        Clock { origin: Instant::now() }
    }

    /// The present on both clocks. A wall clock set before 1970 reads as 1970.
    pub fn now(&self) -> Now {
        Now { wall: wall(), mono: Mono::from_duration(self.origin.elapsed()) }
    }
}

/// The present on the wall clock.
pub fn wall() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}

/// The present, to measure how long something takes.
pub fn instant() -> Instant {
    Instant::now()
}

/// A new job id: UUID version 7, so that ids sort by the time they were made.
pub fn new_job_uuid() -> Uuid {
    Uuid::now_v7()
}

/// A new random id (UUID version 4), for whatever must not show when it was made.
pub fn new_uuid() -> Uuid {
    Uuid::new_v4()
}
