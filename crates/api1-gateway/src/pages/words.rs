//! Numbers, times and durations as people read them. Times are UTC, as in the log.

use std::time::Duration;

use jobs_core::time::Timestamp;

/// A moment, for a `<time>` element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) iso: String,
    /// `12:03:04`, with the date if it is not today's.
    pub(super) text: String,
}

impl Moment {
    pub(super) fn new(at: Timestamp, now: Timestamp) -> Self {
        let iso = at.to_string();
        let time = &iso[11..19];
        let text = if iso[..10] == now.to_string()[..10] { time.to_owned() } else { format!("{} {time}", &iso[..10]) };
        Moment { text, iso }
    }

    /// To the minute, for what began a while ago.
    pub(super) fn short(at: Timestamp, now: Timestamp) -> Self {
        let Moment { iso, text } = Moment::new(at, now);
        Moment { text: text[..text.len() - 3].to_owned(), iso }
    }
}

/// `1,204`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 job`, `1,204 jobs`.
pub(super) fn jobs(number: u64) -> String {
    format!("{} {}", count(number), if number == 1 { "job" } else { "jobs" })
}

/// `never`, `once`, `12 times`.
pub(super) fn times(number: u64) -> String {
    match number {
        0 => "never".to_owned(),
        1 => "once".to_owned(),
        _ => format!("{} times", count(number)),
    }
}

/// How long, to two units at most: `45 s`, `2 min`, `3 h 5 min`, `2 d 4 h`.
pub(super) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let both = |whole: u64, unit: &str, rest: u64, small: &str| match rest {
        0 => format!("{whole} {unit}"),
        _ => format!("{whole} {unit} {rest} {small}"),
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..600 => both(minutes, "min", seconds % 60, "s"),
        600..3_600 => format!("{minutes} min"),
        3_600..86_400 => both(hours, "h", minutes % 60, "min"),
        _ => both(days, "d", hours % 24, "h"),
    }
}

/// An estimate, no more exact than it is: `about 2 min`.
pub(super) fn about(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..1 => "about a second".to_owned(),
        1..90 => format!("about {seconds} s"),
        90..5_400 => format!("about {} min", (seconds + 30) / 60),
        _ => format!("about {} h", (seconds + 1_800) / 3_600),
    }
}

/// Of a call: `0.8 ms`, `12 ms`, `1.5 s`.
pub(super) fn latency(micros: u32) -> String {
    let ms = f64::from(micros) / 1_000.0;
    match ms {
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms if ms < 1_000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.1} s", ms / 1_000.0),
    }
}

/// Of what happens again and again: `0`, `0.3`, `12`, `1,204`.
pub(super) fn rate(per_second: f64) -> String {
    match per_second {
        rate if rate < 0.05 => "0".to_owned(),
        rate if rate < 9.95 => format!("{rate:.1}"),
        // A cast of a float saturates.
        rate => count(rate.round() as u64),
    }
}

/// `4.1 KiB`.
pub(super) fn bytes(number: u64) -> String {
    match number {
        0..1_024 => format!("{number} bytes"),
        1_024..1_048_576 => format!("{:.1} KiB", number as f64 / 1_024.0),
        _ => format!("{:.1} MiB", number as f64 / 1_048_576.0),
    }
}

/// A query string of what has a value.
pub(super) fn query(pairs: &[(&str, &str)]) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(pairs.iter().filter(|(_, value)| !value.is_empty()));
    query.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_durations_have_two_units_at_most() {
        assert_eq!([0, 999, 1_204, 1_000_000].map(count), ["0", "999", "1,204", "1,000,000"]);
        assert_eq!(
            [0, 59, 60, 125, 600, 3_600, 11_100, 190_000].map(|s| span(Duration::from_secs(s))),
            ["0 s", "59 s", "1 min", "2 min 5 s", "10 min", "1 h", "3 h 5 min", "2 d 4 h"]
        );
        assert_eq!(
            [0, 45, 110, 7_300].map(|s| about(Duration::from_secs(s))),
            ["about a second", "about 45 s", "about 2 min", "about 2 h"]
        );
        assert_eq!([800, 12_400, 1_500_000].map(latency), ["0.8 ms", "12 ms", "1.5 s"]);
        assert_eq!([0.01, 0.3, 12.4, 1_203.6].map(rate), ["0", "0.3", "12", "1,204"]);
        assert_eq!([12, 4_200, 3_000_000].map(bytes), ["12 bytes", "4.1 KiB", "2.9 MiB"]);
        assert_eq!((jobs(1), times(1), times(0)), ("1 job".to_owned(), "once".to_owned(), "never".to_owned()));
    }

    #[test]
    fn a_moment_of_another_day_shows_its_date() {
        let now: Timestamp = "2026-11-26T03:00:00Z".parse().unwrap();
        let shown = |at: &str| Moment::new(at.parse().unwrap(), now).text;
        assert_eq!(shown("2026-11-26T02:59:58.123Z"), "02:59:58");
        assert_eq!(shown("2026-11-25T23:59:58Z"), "2026-11-25 23:59:58");
        assert_eq!(Moment::short("2026-11-26T02:59:58Z".parse().unwrap(), now).text, "02:59");
    }

    #[test]
    fn a_query_has_only_what_has_a_value_and_escapes_it() {
        assert_eq!(query(&[("state", "dead"), ("destination", ""), ("q", "a&b c")]), "state=dead&q=a%26b+c");
    }
}
