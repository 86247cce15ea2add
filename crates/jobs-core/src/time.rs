//! The two times: the wall clock, which is written down and read by people, and the monotonic clock, which decides leases.
//!
//! They are separate types because mixing them up is how a clock change loses work: `run_at` and everything stored is a
//! [`Timestamp`]; every deadline kept in memory is a [`Mono`]. Nothing here reads either clock.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A moment of the wall clock: whole milliseconds since the Unix epoch, UTC. Written as RFC 3339 with milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String, format = "date-time", example = "2026-11-22T12:03:04.005Z"))]
pub struct Timestamp(i64);

impl Timestamp {
    /// The last moment that has a four-digit year; later ones are clamped to it, so that every moment can be written.
    pub const MAX: Timestamp = Timestamp(253_402_300_799_999);

    /// `millis` since the Unix epoch, clamped to the years 1970 to 9999.
    pub const fn from_millis(millis: i64) -> Self {
        if millis < 0 {
            Timestamp(0)
        } else if millis > Self::MAX.0 {
            Self::MAX
        } else {
            Timestamp(millis)
        }
    }

    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// This moment later by `duration`, clamped to [`Timestamp::MAX`].
    pub fn plus(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.0.saturating_add(millis))
    }

    /// This moment earlier by `duration`, not before the epoch.
    pub fn minus(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.0.saturating_sub(millis))
    }

    /// How long ago `earlier` was; zero if it was not.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment =
            DateTime::<Utc>::from_timestamp_millis(self.0).expect("a Timestamp lies within the years 1970 to 9999");
        f.write_str(&moment.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

/// Why a text is not a moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an RFC 3339 date and time such as 2026-11-22T12:03:04Z, between the years 1970 and 9999")]
pub struct NotATimestamp(pub String);

impl FromStr for Timestamp {
    type Err = NotATimestamp;

    /// Reads RFC 3339 with any offset; fractions finer than a millisecond are cut off.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let moment = DateTime::parse_from_rfc3339(text).map_err(|_| NotATimestamp(text.to_owned()))?;
        let millis = moment.timestamp_millis();
        if (0..=Self::MAX.0).contains(&millis) { Ok(Timestamp(millis)) } else { Err(NotATimestamp(text.to_owned())) }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A moment of the gateway's monotonic clock: time since an origin that means nothing outside the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mono(Duration);

impl Mono {
    pub const fn from_duration(since_origin: Duration) -> Self {
        Mono(since_origin)
    }

    pub const fn from_millis(since_origin_ms: u64) -> Self {
        Mono(Duration::from_millis(since_origin_ms))
    }

    pub const fn as_duration(self) -> Duration {
        self.0
    }

    pub fn plus(self, duration: Duration) -> Self {
        Mono(self.0.saturating_add(duration))
    }

    /// How long ago `earlier` was; zero if it was not.
    pub fn since(self, earlier: Mono) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// The present, on both clocks: what every decision takes as an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    pub wall: Timestamp,
    pub mono: Mono,
}

impl Now {
    /// The present later by `duration` on both clocks.
    pub fn plus(self, duration: Duration) -> Self {
        Now { wall: self.wall.plus(duration), mono: self.mono.plus(duration) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_timestamp_is_written_as_rfc_3339_with_milliseconds() {
        assert_eq!(Timestamp::from_millis(1_700_000_000_007).to_string(), "2023-11-14T22:13:20.007Z");
    }

    #[test]
    fn an_offset_is_understood_and_a_date_alone_is_not() {
        assert_eq!("2023-11-14T23:13:20.007+01:00".parse(), Ok(Timestamp::from_millis(1_700_000_000_007)));
        assert!("2023-11-14".parse::<Timestamp>().is_err());
        assert!("1969-12-31T23:59:59Z".parse::<Timestamp>().is_err());
    }

    #[test]
    fn adding_a_huge_duration_stops_at_the_last_moment_that_can_be_written() {
        assert_eq!(Timestamp::from_millis(5).plus(Duration::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::MAX.to_string(), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn subtracting_stops_at_the_first_moment_there_is() {
        assert_eq!(Timestamp::from_millis(5_000).minus(Duration::from_secs(2)), Timestamp::from_millis(3_000));
        assert_eq!(Timestamp::from_millis(5).minus(Duration::MAX), Timestamp::from_millis(0));
    }

    #[test]
    fn since_never_goes_below_zero() {
        assert_eq!(Timestamp::from_millis(1).since(Timestamp::from_millis(9)), Duration::ZERO);
        assert_eq!(Mono::from_millis(1).since(Mono::from_millis(9)), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn a_moment_that_is_written_is_read_back_from_any_offset(millis in 0..=Timestamp::MAX.0, minutes in -1_439..=1_439_i32) {
            let moment = Timestamp::from_millis(millis);
            prop_assert_eq!(moment.to_string().parse(), Ok(moment));
            prop_assert_eq!(serde_json::from_str::<Timestamp>(&serde_json::to_string(&moment).unwrap()).unwrap(), moment);
            let offset = chrono::FixedOffset::east_opt(minutes * 60).unwrap();
            let elsewhere = DateTime::from_timestamp_millis(millis).unwrap().with_timezone(&offset).to_rfc3339();
            // Written there, its year may have left the four digits that RFC 3339 has.
            if elsewhere.starts_with(|c: char| c.is_ascii_digit()) {
                prop_assert_eq!(elsewhere.parse(), Ok(moment), "{}", elsewhere);
            }
        }

        #[test]
        fn a_damaged_date_is_refused_or_one_that_can_be_written(
            millis in 0..=Timestamp::MAX.0, at in 0..24_usize, length in 0..6_usize, piece in "[0-9TtZz:.+ -]{0,6}|\\PC{0,3}",
        ) {
            let mut text = Timestamp::from_millis(millis).to_string();
            text.replace_range(at..(at + length).min(text.len()), &piece);
            if let Ok(read) = text.parse::<Timestamp>() {
                prop_assert!((Timestamp::default()..=Timestamp::MAX).contains(&read), "{}", text);
                prop_assert_eq!(read.to_string().parse(), Ok(read), "{}", text);
            }
        }
    }
}
