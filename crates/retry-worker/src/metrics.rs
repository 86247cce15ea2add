//! What this worker has done, as OpenMetrics text, by hand: a handful of counters need no library.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use jobs_core::outcome::Class;
use jobs_core::protocol::WireClass;

/// The content type of OpenMetrics text.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Counters since the start of the process.
#[derive(Default)]
pub(crate) struct Metrics {
    attempts: [AtomicU64; Class::ALL.len()],
    released: AtomicU64,
    lost: AtomicU64,
    settle_failures: AtomicU64,
}

impl Metrics {
    /// A lease's call is over.
    pub(crate) fn ended(&self, class: WireClass) {
        let counter = match class {
            WireClass::Release => &self.released,
            WireClass::Attempted(class) => &self.attempts[class as usize],
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn lost(&self, leases: usize) {
        self.lost.fetch_add(leases as u64, Ordering::Relaxed);
    }

    pub(crate) fn settle_failed(&self) {
        self.settle_failures.fetch_add(1, Ordering::Relaxed);
    }

    /// All of it, with the present calls in flight and leases held.
    pub(crate) fn text(&self, in_flight: u32, held: usize) -> String {
        let mut out = String::new();
        head(&mut out, "worker_attempts", "counter", "Attempts that have ended, by what they found.");
        for class in Class::ALL {
            let count = self.attempts[class as usize].load(Ordering::Relaxed);
            line(&mut out, &format!("worker_attempts_total{{class=\"{}\"}}", class.as_str()), count);
        }
        let counters = [
            ("worker_released", "Leases given back unsent.", &self.released),
            ("worker_lost", "Leases that a heartbeat found lost.", &self.lost),
            ("worker_settle_failures", "Reports that no gateway took; they are offered again.", &self.settle_failures),
        ];
        for (name, help, counter) in counters {
            head(&mut out, name, "counter", help);
            line(&mut out, &format!("{name}_total"), counter.load(Ordering::Relaxed));
        }
        head(&mut out, "worker_in_flight", "gauge", "Calls under way or about to begin.");
        line(&mut out, "worker_in_flight", in_flight.into());
        head(&mut out, "worker_held", "gauge", "Leases held: calls under way and outcomes not yet taken.");
        line(&mut out, "worker_held", held as u64);
        out.push_str("# EOF\n");
        out
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}").expect("writing to a String never fails");
}

fn line(out: &mut String, name: &str, value: u64) {
    writeln!(out, "{name} {value}").expect("writing to a String never fails");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_counted_by_class_and_releases_apart() {
        let metrics = Metrics::default();
        metrics.ended(WireClass::Attempted(Class::Error));
        metrics.ended(WireClass::Release);
        let text = metrics.text(3, 5);
        for expected in [
            "worker_attempts_total{class=\"error\"} 1\n",
            "worker_attempts_total{class=\"ok\"} 0\n",
            "# TYPE worker_released counter\nworker_released_total 1\n",
            "worker_in_flight 3\n",
            "worker_held 5\n",
        ] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
