//! Charts as inline SVG: what is drawn is computed here; the words around it are HTML, so that they keep their size on a phone.
//!
//! Every chart has a table of the same figures behind it, for those who cannot see it or want to know exactly.

use std::fmt::Write;

use askama::Template;
use jobs_core::dispatch::GateStateName;
use jobs_core::time::Timestamp;

use super::words::Moment;
use crate::history::ring::{Sample, Span};

/// The drawing's own units; the browser stretches them to the room there is.
const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 100.0;
/// Stretches of time in a chart.
pub(super) const STRETCHES: usize = 60;

/// One line of a chart.
pub(super) struct Series<'a> {
    pub(super) name: &'static str,
    /// `main`, `second` or `bound`: how it is drawn.
    pub(super) style: &'static str,
    /// `None`: a gap.
    pub(super) value: &'a dyn Fn(&Sample) -> Option<f64>,
}

/// A chart with axes and a table.
#[derive(Template)]
#[template(path = "chart.html")]
pub(super) struct Chart {
    id: &'static str,
    title: &'static str,
    /// The latest values in words.
    now: String,
    most: String,
    half: String,
    begin: String,
    middle: String,
    end: String,
    lines: Vec<Line>,
    bands: Vec<Band>,
    heads: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

struct Line {
    name: &'static str,
    style: &'static str,
    path: String,
}

/// The gate was not closed.
struct Band {
    style: &'static str,
    x: String,
    width: String,
}

impl Chart {
    /// `stretches`: of `span` up to `now`, see [`crate::history::ring::Ring::stretches`]. `show`: a value in words.
    pub(super) fn new(
        (id, title): (&'static str, &'static str),
        stretches: &[Option<Sample>],
        (span, now): (Span, Timestamp),
        series: &[Series<'_>],
        show: &dyn Fn(f64) -> String,
    ) -> Self {
        let values: Vec<Vec<Option<f64>>> =
            series.iter().map(|one| stretches.iter().map(|sample| (one.value)(sample.as_ref()?)).collect()).collect();
        let most = round_up(values.iter().flatten().flatten().copied().fold(0.0, f64::max));
        let begin = Timestamp::from_millis(now.as_millis() - span.millis());
        let time = |share: f64| {
            let at = begin.as_millis() + (span.millis() as f64 * share) as i64;
            Moment::short(Timestamp::from_millis(at), now).text
        };
        let latest = |one: &Vec<Option<f64>>| one.iter().rev().flatten().next().map_or("none".to_owned(), |v| show(*v));
        let in_words = series.iter().zip(&values).map(|(one, values)| format!("{} {}", one.name, latest(values)));
        let lines = series.iter().zip(&values);
        Chart {
            id,
            title,
            now: in_words.collect::<Vec<_>>().join(", "),
            most: show(most),
            half: show(most / 2.0),
            begin: time(0.0),
            middle: time(0.5),
            end: "now".to_owned(),
            lines: lines
                .map(|(one, values)| Line { name: one.name, style: one.style, path: path(values, most, WIDTH, HEIGHT) })
                .collect(),
            bands: bands(stretches),
            heads: series.iter().map(|one| one.name).collect(),
            rows: rows(stretches, &values, now, show),
        }
    }
}

/// A small chart without axes, for a row of a table.
#[derive(Template)]
#[template(path = "spark.html")]
pub(super) struct Spark {
    /// What it shows, in words.
    label: String,
    path: String,
    bands: Vec<Band>,
}

impl Spark {
    pub(super) fn new(
        what: &str,
        stretches: &[Option<Sample>],
        value: &dyn Fn(&Sample) -> f64,
        show: &dyn Fn(f64) -> String,
    ) -> Self {
        let values: Vec<Option<f64>> = stretches.iter().map(|sample| sample.as_ref().map(value)).collect();
        let most = values.iter().flatten().copied().fold(0.0, f64::max);
        let latest = values.iter().rev().flatten().next().copied().unwrap_or(0.0);
        Spark {
            label: format!("{what} in the last ten minutes: now {}, at most {}", show(latest), show(most)),
            path: path(&values, round_up(most), WIDTH, HEIGHT),
            bands: bands(stretches),
        }
    }
}

/// The least of 1, 2, 5, 10, 20, … that is no less.
fn round_up(value: f64) -> f64 {
    if value <= 1.0 {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|step| *step >= value * 0.999).unwrap_or(value)
}

/// A line through the values, broken at gaps; a value alone is a short line.
fn path(values: &[Option<f64>], most: f64, width: f64, height: f64) -> String {
    let mut path = String::new();
    let step = width / values.len().max(1) as f64;
    let mut drawing = false;
    for (place, value) in values.iter().enumerate() {
        let Some(value) = value else {
            drawing = false;
            continue;
        };
        let (x, y) = (place as f64 * step, height - (value / most).clamp(0.0, 1.0) * height);
        let verb = if drawing { 'L' } else { 'M' };
        // Writing to a String cannot fail. Each stretch is a step, as wide as the time it stands for.
        let _ok = write!(path, "{verb}{x:.1} {y:.1}H{:.1}", x + step);
        drawing = true;
    }
    path
}

/// Where the gate was not closed, as few rectangles as possible.
fn bands(stretches: &[Option<Sample>]) -> Vec<Band> {
    let step = WIDTH / stretches.len().max(1) as f64;
    let style = |sample: &Option<Sample>| match sample.as_ref()?.gate {
        GateStateName::Open => Some("open"),
        GateStateName::Paused => Some("paused"),
        GateStateName::Ramp => Some("ramp"),
        GateStateName::Closed => None,
    };
    let mut bands = Vec::new();
    let mut place = 0;
    for same in stretches.chunk_by(|one, other| style(one) == style(other)) {
        if let Some(style) = style(&same[0]) {
            let (x, width) = (place as f64 * step, same.len() as f64 * step);
            bands.push(Band { style, x: format!("{x:.1}"), width: format!("{width:.1}") });
        }
        place += same.len();
    }
    bands
}

/// The same figures, latest first.
fn rows(
    stretches: &[Option<Sample>],
    values: &[Vec<Option<f64>>],
    now: Timestamp,
    show: &dyn Fn(f64) -> String,
) -> Vec<Vec<String>> {
    let known = (0..stretches.len()).rev().filter_map(|place| Some((place, stretches[place].as_ref()?)));
    known
        .map(|(place, sample)| {
            let time = std::iter::once(Moment::new(sample.at, now).text);
            let cells = values.iter().map(|one| one[place].map_or("–".to_owned(), show));
            time.chain(cells).collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::ring::tests::sample;

    #[test]
    fn an_axis_ends_at_a_round_number() {
        assert_eq!([0.0, 0.4, 1.0, 3.0, 20.0, 21.0, 999.0].map(round_up), [1.0, 1.0, 1.0, 5.0, 20.0, 50.0, 1_000.0]);
    }

    #[test]
    fn a_line_is_broken_at_a_gap_and_stays_within_the_drawing() {
        let path = path(&[Some(0.0), Some(2.0), None, Some(9.0)], 2.0, 40.0, 100.0);
        assert_eq!(path, "M0.0 100.0H10.0L10.0 0.0H20.0M30.0 0.0H40.0");
    }

    #[test]
    fn a_chart_has_a_table_of_its_figures_and_shows_the_outage() {
        let open = Sample { gate: GateStateName::Open, ..sample(3) };
        let stretches = [None, Some(sample(1)), Some(open), Some(open)];
        let waiting = |sample: &Sample| Some(sample.waiting as f64);
        let series = [Series { name: "waiting", style: "main", value: &waiting }];
        let now = Timestamp::from_millis(4_000);
        let chart = Chart::new(("w", "Waiting"), &stretches, (Span::TenMinutes, now), &series, &|v| format!("{v}"));
        assert_eq!(chart.now, "waiting 3");
        assert_eq!(chart.rows.len(), 3);
        assert_eq!(chart.rows[2], ["00:00:01", "1"]);
        assert_eq!(
            (chart.bands.len(), chart.bands[0].x.as_str(), chart.bands[0].width.as_str()),
            (1, "300.0", "300.0")
        );
        let html = chart.render().unwrap();
        assert!(html.contains("<table") && html.contains("<svg") && !html.contains("style="), "{html}");
    }
}
