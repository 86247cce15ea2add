//! All figures with a goal as one picture: how far each is from it.

use std::fmt::Write as _;

use crate::chart::{escaped, style};
use crate::figure::{Figure, Goal};

const WIDTH: f64 = 960.0;
/// Names end here, bars begin.
const LEFT: f64 = 400.0;
const RIGHT: f64 = 130.0;
const TOP: f64 = 74.0;
const ROW: f64 = 26.0;
const BAR: f64 = 14.0;

/// A figure that is so many times better than its goal, or more, has the longest bar.
const MOST: f64 = 2.0;

/// The SVG. `about`: one line on the machine.
pub(super) fn draw(figures: &[Figure], about: &str) -> String {
    let rows: Vec<(&Figure, f64)> = figures.iter().filter_map(|figure| Some((figure, reached(figure)?))).collect();
    let height = TOP + rows.len() as f64 * ROW + 30.0;
    let x = |share: f64| LEFT + share.clamp(0.0, MOST) / MOST * (WIDTH - LEFT - RIGHT);
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">"#
    );
    let mut line = |text: String| writeln!(svg, "{text}").expect("a string takes whatever is written to it");
    line(format!("<title>Figures beside their goals</title>{}", style()));
    line("<style>.met{fill:#0072b2}.missed{fill:#d55e00}.goal{stroke:#57606a;stroke-width:1.5}</style>".to_owned());
    line(format!(r#"<rect class="page" width="{WIDTH}" height="{height}"/>"#));
    line(r#"<text class="title" x="24" y="28">Figures beside their goals</text>"#.to_owned());
    line(format!(
        r#"<text class="about" x="24" y="47">{}; a bar that reaches the line meets its goal</text>"#,
        escaped(about)
    ));
    for (row, (figure, reached)) in rows.iter().enumerate() {
        let top = TOP + row as f64 * ROW;
        let (middle, class) = (top + BAR - 3.0, if figure.met { "met" } else { "missed" });
        let (width, name) = (x(*reached) - LEFT, escaped(&figure.name));
        line(format!(r#"<text class="label end" x="{}" y="{middle}">{name}</text>"#, LEFT - 10.0));
        line(format!(r#"<rect class="{class}" x="{LEFT}" y="{top}" width="{width:.1}" height="{BAR}"/>"#));
        let told = escaped(&figure.told());
        line(format!(r#"<text class="label" x="{:.1}" y="{middle}">{told}</text>"#, x(*reached) + 8.0));
    }
    let bottom = TOP + rows.len() as f64 * ROW;
    line(format!(r#"<path class="goal" d="M{:.1} {}V{bottom}"/>"#, x(1.0), TOP - 8.0));
    line(format!(r#"<text class="label middle" x="{:.1}" y="{}">goal</text></svg>"#, x(1.0), bottom + 14.0));
    svg
}

/// How much of its goal a figure reaches: 1 where it is just met, more where it does better. `None` without a goal or a measure.
fn reached(figure: &Figure) -> Option<f64> {
    let share = match figure.goal {
        Goal::AtLeast(least) => figure.measured / least,
        Goal::AtMost(most) if figure.measured <= 0.0 => most.signum() * MOST,
        Goal::AtMost(most) => most / figure.measured,
        Goal::None => return None,
    };
    share.is_finite().then_some(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_reaches_the_line_where_the_goal_is_met_whichever_way_it_points() {
        let reached = |measured, goal| reached(&Figure::new("a", measured, "", goal));
        assert_eq!(reached(0.3, Goal::AtLeast(0.6)), Some(0.5));
        assert_eq!(reached(4.0, Goal::AtMost(8.0)), Some(2.0));
        assert_eq!(reached(-0.1, Goal::AtMost(8.0)), Some(MOST));
        assert_eq!(reached(f64::NAN, Goal::AtMost(8.0)), None);
        assert_eq!(reached(1.0, Goal::None), None);
    }

    #[test]
    fn every_figure_with_a_goal_is_in_the_picture() {
        let figures = [
            Figure::new("a < b", 0.3, "", Goal::AtLeast(0.6)),
            Figure::new("told", 1.0, "", Goal::None),
            Figure::new("memory", 20.0, "MB", Goal::AtMost(60.0)),
        ];
        let svg = draw(&figures, "2 cores");
        assert_eq!((svg.matches(r#"class="missed""#).count(), svg.matches(r#"class="met""#).count()), (1, 1), "{svg}");
        assert!(svg.contains("a &lt; b") && svg.contains("20.00 MB") && !svg.contains(">told<"), "{svg}");
        assert!(svg.ends_with("</svg>\n"));
    }
}
