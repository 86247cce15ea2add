//! The outage as a picture: calls per second, waiting jobs and the limit over time, with the same outage without a gate beside it.

use std::time::Duration;

use jobs_core::time::Timestamp;

use super::model::{Course, Outage};
use super::report::OutageReport;
use super::watch::Sample;
use crate::chart::{Chart, Panel, Series};
use crate::client::LedgerView;
use crate::report::{or_never, seconds};

/// Of the model, at most so many times as long as what was measured is shown, or the measured part would be a sliver.
const LONGEST: f64 = 4.0;

/// The SVG. `model`: the same outage; `start`: when posting began, `ledger`: API 2's at the end.
pub(super) fn draw(
    model: Outage,
    start: Timestamp,
    samples: &[Sample],
    ledger: &LedgerView,
    report: &OutageReport,
) -> String {
    let (course, down) = (model.course(), model.down);
    let at = |moment: Timestamp| moment.since(start).as_secs_f64();
    let end = ledger.last_ok_at.map_or(down.as_secs_f64(), at);
    let until = (course.calls.len() as f64 + 1.0).clamp(end + 1.0, end * LONGEST);
    let sampled = |value: fn(&Sample) -> f64| samples.iter().map(|sample| (at(sample.at), value(sample))).collect();
    let measured = |name: &str, points| Series { name: name.to_owned(), model: false, points };
    Chart {
        title: title(model),
        about: about(report, &course),
        seconds: (0.0, until),
        shaded: Some((0.0, down.as_secs_f64(), "API 2 is down".to_owned())),
        panels: vec![
            Panel {
                title: "Calls per second".to_owned(),
                series: vec![measured("Holdfast, measured", calls(ledger, start, until)), without_gate(&course.calls)],
            },
            Panel {
                title: "Waiting jobs".to_owned(),
                series: vec![
                    measured("Holdfast, measured", sampled(|sample| sample.waiting as f64)),
                    without_gate(&course.waiting),
                ],
            },
            Panel {
                title: "What the gate allows".to_owned(),
                series: vec![
                    measured("calls in flight", sampled(|sample| open_to(sample, f64::from(sample.limit)))),
                    measured(
                        "calls per second",
                        sampled(|sample| open_to(sample, sample.rate.unwrap_or(f64::INFINITY))),
                    ),
                ],
            },
        ],
    }
    .svg()
}

/// Nothing while it is held.
fn open_to(sample: &Sample, value: f64) -> f64 {
    if sample.held_since.is_some() { 0.0 } else { value }
}

fn title(model: Outage) -> String {
    let capacity = model.per_second.map_or(String::new(), |rate| format!(", then {rate}/s"));
    let fresh = if model.fresh > 0 { format!(" and {} fresh ones", model.fresh) } else { String::new() };
    format!("{} jobs{fresh}, API 2 down for {:.0} s{capacity}", model.jobs, model.down.as_secs_f64())
}

fn about(report: &OutageReport, course: &Course) -> String {
    let model = |time: Duration| seconds(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    format!(
        "First success {} and all drained {} after it was back; each job on its own timer: {} and {}",
        or_never(report.time_to_first_success_ms),
        or_never(report.time_to_drain_ms),
        model(course.first_ok),
        model(course.drained)
    )
}

/// By second of API 2's clock; seconds without a call are not in its ledger.
fn calls(ledger: &LedgerView, start: Timestamp, until: f64) -> Vec<(f64, f64)> {
    let mut points = vec![(0.0, 0.0)];
    for second in &ledger.per_second {
        // The second in which posting began had begun before.
        let at = second.at.since(start).as_secs_f64();
        let previous = points.last().map_or(0.0, |(at, _)| *at);
        if at > previous + 1.5 {
            points.push((previous + 1.0, 0.0));
        }
        points.push((at, second.requests as f64));
    }
    let last = points.last().map_or(0.0, |(at, _)| *at);
    points.extend([(last + 1.0, 0.0), (until, 0.0)]);
    points
}

/// What it would have been: each second's number.
fn without_gate(seconds: &[u64]) -> Series {
    let points = seconds.iter().enumerate().map(|(second, count)| (second as f64, *count as f64));
    let end = (seconds.len() as f64, 0.0);
    Series { name: "each job on its own timer, model".to_owned(), model: true, points: points.chain([end]).collect() }
}
