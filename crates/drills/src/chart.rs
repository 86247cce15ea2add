//! Pictures of what happened over time, as SVG written by hand: a few lines over one axis need no library.
//!
//! A chart is a column of panels that share the time axis; a panel draws plain series of points. It knows nothing of jobs. The
//! colours are told apart by people who see few of them, and the picture is readable on light and on dark pages.

use std::fmt::Write as _;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 78.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 64.0;
const PANEL_HEIGHT: f64 = 168.0;
/// Above each panel: its title and legend, and the axis of the one before.
const PANEL_GAP: f64 = 52.0;
const BOTTOM: f64 = 46.0;

/// About so many lines across.
const TICKS: f64 = 5.0;

/// After Okabe and Ito; the second of each pair is for dark pages.
const COLOURS: [(&str, &str); 3] = [("#0072b2", "#56b4e9"), ("#d55e00", "#e69f00"), ("#007a5a", "#2fc79a")];

/// A picture.
#[derive(Debug, Clone)]
pub struct Chart {
    pub title: String,
    /// One line below the title.
    pub about: String,
    /// Seconds shown: points outside are cut off.
    pub seconds: (f64, f64),
    /// A span of time that is shaded, and its name.
    pub shaded: Option<(f64, f64, String)>,
    pub panels: Vec<Panel>,
}

/// One of the pictures above each other.
#[derive(Debug, Clone)]
pub struct Panel {
    pub title: String,
    pub series: Vec<Series>,
}

/// A line, which keeps each value until the next.
#[derive(Debug, Clone)]
pub struct Series {
    /// For the legend. Series of one name have one colour in all panels if they come in the same order.
    pub name: String,
    /// Not measured: drawn dashed.
    pub model: bool,
    /// Seconds and value, by time; a value that is not finite leaves a gap.
    pub points: Vec<(f64, f64)>,
}

impl Chart {
    /// The whole document.
    pub fn svg(&self) -> String {
        let height = TOP + self.panels.len() as f64 * (PANEL_HEIGHT + PANEL_GAP) + BOTTOM - PANEL_GAP + 26.0;
        let mut svg = String::new();
        self.write(&mut svg, height).expect("a string takes whatever is written to it");
        svg
    }

    fn write(&self, svg: &mut String, height: f64) -> std::fmt::Result {
        writeln!(
            svg,
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">"#
        )?;
        writeln!(svg, "<title>{}</title>\n{}", escaped(&self.title), style())?;
        writeln!(svg, r#"<rect class="page" width="{WIDTH}" height="{height}"/>"#)?;
        writeln!(svg, r#"<text class="title" x="{LEFT}" y="28">{}</text>"#, escaped(&self.title))?;
        writeln!(svg, r#"<text class="about" x="{LEFT}" y="47">{}</text>"#, escaped(&self.about))?;
        let mut top = TOP + 26.0;
        for panel in &self.panels {
            self.panel(svg, panel, top)?;
            top += PANEL_HEIGHT + PANEL_GAP;
        }
        let middle = (LEFT + WIDTH - RIGHT) / 2.0;
        writeln!(svg, r#"<text class="label middle" x="{middle}" y="{}">seconds</text>"#, height - 8.0)?;
        writeln!(svg, "</svg>")
    }

    fn panel(&self, svg: &mut String, panel: &Panel, top: f64) -> std::fmt::Result {
        let (from, to) = self.seconds;
        let bottom = top + PANEL_HEIGHT;
        let shown = panel.series.iter().flat_map(|series| &series.points).filter(|(at, _)| (from..=to).contains(at));
        let highest = shown.map(|(_, value)| *value).filter(|value| value.is_finite()).fold(1.0, f64::max);
        let step = nice_step(highest);
        let most = (highest / step).ceil() * step;
        let x = |at: f64| LEFT + (at.clamp(from, to) - from) / (to - from) * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| bottom - value / most * PANEL_HEIGHT;

        if let Some((begin, end, name)) = &self.shaded {
            let (left, width) = (x(*begin), x(*end) - x(*begin));
            writeln!(
                svg,
                r#"<rect class="shaded" x="{left:.1}" y="{top}" width="{width:.1}" height="{PANEL_HEIGHT}"/>"#
            )?;
            writeln!(svg, r#"<text class="label" x="{:.1}" y="{}">{}</text>"#, left + 5.0, top + 14.0, escaped(name))?;
        }
        let mut value = 0.0;
        while value <= most + step / 2.0 {
            let height = y(value);
            writeln!(svg, r#"<path class="grid" d="M{LEFT} {height:.1}H{}"/>"#, WIDTH - RIGHT)?;
            let (at, below) = (LEFT - 8.0, height + 4.0);
            writeln!(svg, r#"<text class="label end" x="{at}" y="{below:.1}">{}</text>"#, grouped(value))?;
            value += step;
        }
        let step = nice_step(to - from);
        let mut second = (from / step).ceil() * step;
        while second <= to {
            let (at, below) = (x(second), bottom + 16.0);
            writeln!(svg, r#"<path class="grid" d="M{at:.1} {bottom}v4"/>"#)?;
            writeln!(svg, r#"<text class="label middle" x="{at:.1}" y="{below}">{}</text>"#, grouped(second))?;
            second += step;
        }
        writeln!(svg, r#"<text class="panel" x="{LEFT}" y="{}">{}</text>"#, top - 9.0, escaped(&panel.title))?;
        let mut right = WIDTH - RIGHT;
        for (number, series) in panel.series.iter().enumerate().rev() {
            let class = format!("line c{}{}", number % COLOURS.len(), if series.model { " model" } else { "" });
            writeln!(svg, r#"<path class="{class}" d="{}"/>"#, path(&series.points, self.seconds, x, y))?;
            let (words, above) = (escaped(&series.name), top - 9.0);
            writeln!(svg, r#"<text class="label end" x="{right:.1}" y="{above}">{words}</text>"#)?;
            right -= 6.2 * series.name.chars().count() as f64 + 8.0;
            writeln!(svg, r#"<path class="{class}" d="M{:.1} {}h24"/>"#, right - 24.0, above - 4.0)?;
            right -= 24.0 + 18.0;
        }
        Ok(())
    }
}

pub(crate) fn style() -> String {
    let mut style = String::from(
        "<style>text{font:12px system-ui,sans-serif;fill:#24292f}.title{font-size:17px;font-weight:600}.panel{font-weight:600}\
         .about,.label{fill:#57606a;font-size:11.5px}.end{text-anchor:end}.middle{text-anchor:middle}.page{fill:#fff}\
         .grid{stroke:#d0d7de;fill:none}.shaded{fill:#f1f3f5}.line{fill:none;stroke-width:1.8}.model{stroke-dasharray:5 3}",
    );
    for (number, (light, _)) in COLOURS.iter().enumerate() {
        style.push_str(&format!(".c{number}{{stroke:{light}}}"));
    }
    style.push_str(
        "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.about,.label{fill:#9da7b1}.page{fill:#0d1117}.grid{stroke:#30363d}\
         .shaded{fill:#1b222b}",
    );
    for (number, (_, dark)) in COLOURS.iter().enumerate() {
        style.push_str(&format!(".c{number}{{stroke:{dark}}}"));
    }
    style + "}</style>"
}

/// Steps: each value holds until the next one.
fn path(points: &[(f64, f64)], seconds: (f64, f64), x: impl Fn(f64) -> f64, y: impl Fn(f64) -> f64) -> String {
    let mut path = String::new();
    let mut drawing = false;
    for (at, value) in points.iter().filter(|(at, _)| (seconds.0..=seconds.1).contains(at)) {
        let (x, y) = (x(*at), y(*value));
        match (value.is_finite(), drawing) {
            (true, false) => path.push_str(&format!("M{x:.1} {y:.1}")),
            (true, true) => path.push_str(&format!("H{x:.1}V{y:.1}")),
            (false, true) => path.push_str(&format!("H{x:.1}")),
            (false, false) => {}
        }
        drawing = value.is_finite();
    }
    path
}

/// 1, 2 or 5 times a power of ten, so that [`TICKS`] of them or a few less reach `highest` (> 0).
fn nice_step(highest: f64) -> f64 {
    let raw = highest / TICKS;
    let power = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0].iter().map(|factor| factor * power).find(|step| *step >= raw * 0.999);
    step.unwrap_or(10.0 * power)
}

/// 12,500 rather than 12500; a fraction only where there is one.
fn grouped(value: f64) -> String {
    if value.fract().abs() > 1e-9 {
        return format!("{value:.1}");
    }
    let digits = format!("{:.0}", value.abs());
    let mut text = String::from(if value < 0.0 { "−" } else { "" });
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, f64)>) -> String {
        let series = Series { name: "a < b".to_owned(), model: false, points };
        let panels = vec![Panel { title: "calls".to_owned(), series: vec![series] }];
        let (title, about) = ("Title".to_owned(), String::new());
        Chart { title, about, seconds: (0.0, 10.0), shaded: None, panels }.svg()
    }

    #[test]
    fn the_highest_value_is_within_the_panel_and_the_axis_ends_at_a_round_number() {
        let svg = chart(vec![(0.0, 0.0), (5.0, 1_234.0), (10.0, 0.0)]);
        assert!(svg.contains(">1,500<") && !svg.contains(">2,000<"), "{svg}");
        let top = TOP + 26.0;
        let height = top + PANEL_HEIGHT * (1.0 - 1_234.0 / 1_500.0);
        assert!(svg.contains(&format!("V{height:.1}")), "{svg}");
    }

    #[test]
    fn text_is_escaped_and_what_is_outside_or_no_number_is_not_drawn() {
        let svg = chart(vec![(0.0, 1.0), (1.0, f64::INFINITY), (2.0, 1.0), (99.0, 1e9)]);
        assert!(svg.contains("a &lt; b") && !svg.contains("a < b"));
        assert!(!svg.contains("inf") && !svg.contains("NaN"), "{svg}");
        let line = svg.lines().find(|line| line.contains(r#"class="line c0" d="M78"#)).unwrap();
        assert_eq!(line.matches('M').count(), 2, "a gap: {line}");
    }

    #[test]
    fn steps_are_round() {
        for (highest, step) in [(1.0, 0.2), (4.0, 1.0), (10.0, 2.0), (1_234.0, 500.0), (100_000.0, 20_000.0)] {
            assert!((nice_step(highest) - step).abs() < step / 1e6, "{highest}: {}", nice_step(highest));
        }
    }
}
