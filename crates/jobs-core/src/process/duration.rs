//! Durations a person writes: `250ms`, `30s`, `1h 30m`, `7d`.
//!
//! Whole numbers with a unit, largest to smallest by habit but in any order. A bare number is refused: it does not say its unit.

use std::time::Duration;

/// The units, largest first, in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a duration such as 250ms, 30s, 1h 30m or 7d")]
pub struct NotADuration;

/// Reads a duration such as `30s` or `1h 30m`; units are ms, s, m, h and d.
///
/// # Errors
/// [`NotADuration`] for an empty text, a number without unit, an unknown unit, or more than `u64::MAX` milliseconds.
pub fn parse(text: &str) -> Result<Duration, NotADuration> {
    let mut rest = text.trim();
    let mut total_ms: u64 = 0;
    if rest.is_empty() {
        return Err(NotADuration);
    }
    while !rest.is_empty() {
        let (number, after) = split_where(rest, |c| !c.is_ascii_digit());
        let (unit, after) = split_where(after.trim_start(), |c| !c.is_ascii_alphabetic());
        let unit_ms = UNITS.iter().find(|(name, _)| *name == unit).ok_or(NotADuration)?.1;
        let part = number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit_ms)).ok_or(NotADuration)?;
        total_ms = total_ms.checked_add(part).ok_or(NotADuration)?;
        rest = after.trim_start();
    }
    Ok(Duration::from_millis(total_ms))
}

/// Writes a duration so that [`parse`] reads it back, to the millisecond: `1h 30m`, `0s`.
pub fn show(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut parts = Vec::new();
    for (unit, unit_ms) in UNITS {
        if rest >= unit_ms {
            parts.push(format!("{}{unit}", rest / unit_ms));
            rest %= unit_ms;
        }
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

fn split_where(text: &str, stop: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(stop).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_whole_numbers_with_units() {
        assert_eq!(parse("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse(" 1h 30m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(parse("1d2s"), Ok(Duration::from_secs(86_402)));
        assert_eq!(parse("0s"), Ok(Duration::ZERO));
    }

    #[test]
    fn what_does_not_name_its_unit_or_is_too_long_is_refused() {
        for text in [
            "",
            " ",
            "30",
            "s",
            "1.5s",
            "-1s",
            "3 fortnights",
            "30s!",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert_eq!(parse(text), Err(NotADuration), "{text:?}");
        }
    }

    #[test]
    fn what_is_shown_is_read_back() {
        for millis in [0, 1, 999, 1_000, 90_000, 86_400_000, 90_061_001] {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse(&show(duration)), Ok(duration), "{millis}");
        }
        assert_eq!(show(Duration::from_secs(5_400)), "1h 30m");
    }
}
