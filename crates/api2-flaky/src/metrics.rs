//! The metrics as OpenMetrics text, by hand: a handful of counters need no library.

use std::fmt::Write;

use crate::ledger::Summary;

/// The content type of OpenMetrics text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The ledger's counters as OpenMetrics text. Clearing the ledger sets them to zero, as a restart would.
pub fn text(summary: &Summary) -> String {
    let mut out = String::from(
        "# HELP api2_requests Requests to simulate that have ended, by how they ended.\n# TYPE api2_requests counter\n",
    );
    for (end, count) in &summary.by_status {
        line(&mut out, &format!("api2_requests_total{{status=\"{end}\"}}"), *count);
    }
    let singles = [
        ("accepted", "counter", "Distinct keys answered 2xx.", summary.accepted),
        ("duplicates", "counter", "2xx answers to a key that had one before.", summary.duplicates),
        ("in_flight", "gauge", "Requests that have arrived and not ended.", summary.in_flight),
    ];
    for (name, kind, help, value) in singles {
        let suffix = if kind == "counter" { "_total" } else { "" };
        out.push_str(&format!("# HELP api2_{name} {help}\n# TYPE api2_{name} {kind}\n"));
        line(&mut out, &format!("api2_{name}{suffix}"), value);
    }
    out.push_str("# EOF\n");
    out
}

fn line(out: &mut String, name: &str, value: u64) {
    writeln!(out, "{name} {value}").expect("writing to a String never fails");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Arrival, End, Ledger};
    use jobs_core::time::Timestamp;

    #[test]
    fn requests_are_counted_by_how_they_ended() {
        let mut ledger = Ledger::default();
        for end in [End::Answered(200), End::Answered(200), End::Reset] {
            let ticket = ledger.arrived(Timestamp::default(), Arrival { key: Some("a"), ..Arrival::default() });
            ledger.ended(Timestamp::default(), &ticket, end);
        }
        let text = text(&ledger.summary());
        for expected in [
            "api2_requests_total{status=\"200\"} 2\n",
            "api2_requests_total{status=\"reset\"} 1\n",
            "api2_accepted_total 1\n",
            "api2_duplicates_total 1\n",
            "# TYPE api2_in_flight gauge\napi2_in_flight 0\n",
        ] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
