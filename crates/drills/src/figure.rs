//! Figures beside their goals, as a table for people and as JSON.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// What a figure should be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// Told for what it explains.
    None,
}

/// One figure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    pub name: String,
    pub measured: f64,
    /// `ms`, `MB`, `/s`; empty for a ratio.
    pub unit: &'static str,
    pub goal: Goal,
    pub met: bool,
    /// What one must know to judge it, by name.
    pub beside: BTreeMap<String, f64>,
}

impl Figure {
    pub(crate) fn new(name: &str, measured: f64, unit: &'static str, goal: Goal) -> Self {
        let met = match goal {
            Goal::AtLeast(least) => measured >= least,
            Goal::AtMost(most) => measured <= most,
            Goal::None => true,
        };
        Figure { name: name.to_owned(), measured, unit, goal, met, beside: BTreeMap::new() }
    }

    /// What was measured, with its unit.
    pub(crate) fn told(&self) -> String {
        format!("{} {}", number(self.measured), self.unit).trim_end().to_owned()
    }

    pub(crate) fn beside(mut self, name: &str, value: f64) -> Self {
        self.beside.insert(name.to_owned(), value);
        self
    }
}

/// Whether all goals are met.
pub(crate) fn all_met(figures: &[Figure]) -> bool {
    figures.iter().all(|figure| figure.met)
}

/// A table of figures.
pub(crate) struct Table<'a>(pub(crate) &'a [Figure]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<52} {:>10}  {:<11} ", "figure", "measured", "goal")?;
        for figure in self.0 {
            let (goal, verdict) = match figure.goal {
                Goal::AtLeast(least) => (format!(">= {} {}", number(least), figure.unit), verdict(figure.met)),
                Goal::AtMost(most) => (format!("<= {} {}", number(most), figure.unit), verdict(figure.met)),
                Goal::None => (String::new(), ""),
            };
            writeln!(f, "{:<52} {:>10}  {goal:<11} {verdict}", figure.name, figure.told())?;
            for (name, value) in &figure.beside {
                writeln!(f, "    {name:<48} {:>10}", number(*value))?;
            }
        }
        Ok(())
    }
}

fn verdict(met: bool) -> &'static str {
    if met { "ok" } else { "MISSED" }
}

fn number(value: f64) -> String {
    if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_that_could_not_be_measured_misses_its_goal() {
        assert!(!Figure::new("", f64::NAN, "", Goal::AtLeast(0.0)).met);
        assert!(!Figure::new("", f64::NAN, "", Goal::AtMost(9.0)).met);
    }

    #[test]
    fn the_table_shows_what_was_missed_and_the_goal() {
        let text = Table(&[Figure::new("memory", 200.0, "MB", Goal::AtMost(150.0))]).to_string();
        assert!(text.contains("MISSED") && text.contains("<= 150 MB"), "{text}");
    }
}
