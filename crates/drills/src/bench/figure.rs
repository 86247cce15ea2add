//! Figures beside their goals, as a table for people and as JSON.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::disk::Disk;
use super::usage;

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
    pub(super) fn new(name: &str, measured: f64, unit: &'static str, goal: Goal) -> Self {
        let met = match goal {
            Goal::AtLeast(least) => measured >= least,
            Goal::AtMost(most) => measured <= most,
            Goal::None => true,
        };
        Figure { name: name.to_owned(), measured, unit, goal, met, beside: BTreeMap::new() }
    }

    pub(super) fn beside(mut self, name: &str, value: f64) -> Self {
        self.beside.insert(name.to_owned(), value);
        self
    }
}

/// All figures of one run, and the machine they are of.
#[derive(Debug, Clone, Serialize)]
pub struct BenchReport {
    /// Whether all goals were met.
    pub passed: bool,
    /// Fewer rounds than the goals were written for.
    pub quick: bool,
    pub cores: usize,
    pub file_system: String,
    /// Of 4 KiB at a file's end, and over what it has.
    pub fdatasync_append_p50_ms: f64,
    pub fdatasync_overwrite_p50_ms: f64,
    pub figures: Vec<Figure>,
}

impl BenchReport {
    pub(super) fn new(figures: Vec<Figure>, quick: bool, disk: &Disk) -> Self {
        let (append, overwrite) = disk.sync_p50_ms();
        BenchReport {
            passed: figures.iter().all(|figure| figure.met),
            quick,
            cores: usage::cores(),
            file_system: disk.file_system.clone(),
            fdatasync_append_p50_ms: append,
            fdatasync_overwrite_p50_ms: overwrite,
            figures,
        }
    }
}

impl fmt::Display for BenchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (append, overwrite) = (self.fdatasync_append_p50_ms, self.fdatasync_overwrite_p50_ms);
        let quick = if self.quick { "; quick run" } else { "" };
        writeln!(
            f,
            "{} cores; {}; fdatasync p50 {append:.2} ms after an append, {overwrite:.2} ms after an overwrite{quick}\n",
            self.cores, self.file_system
        )?;
        writeln!(f, "{:<52} {:>10}  {:<11} ", "figure", "measured", "goal")?;
        for figure in &self.figures {
            let measured = format!("{} {}", number(figure.measured), figure.unit);
            let (goal, verdict) = match figure.goal {
                Goal::AtLeast(least) => (format!(">= {} {}", number(least), figure.unit), verdict(figure.met)),
                Goal::AtMost(most) => (format!("<= {} {}", number(most), figure.unit), verdict(figure.met)),
                Goal::None => (String::new(), ""),
            };
            writeln!(f, "{:<52} {:>10}  {goal:<11} {verdict}", figure.name, measured.trim_end())?;
            for (name, value) in &figure.beside {
                writeln!(f, "    {name:<48} {:>10}", number(*value))?;
            }
        }
        write!(f, "\n{}", if self.passed { "All goals were met." } else { "Not all goals were met." })
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
    fn a_figure_that_misses_its_goal_fails_the_run() {
        let disk = Disk::of_no_folder("ext4");
        let good = Figure::new("a ratio", 0.7, "", Goal::AtLeast(0.6));
        let bad = Figure::new("memory", 200.0, "MB", Goal::AtMost(150.0));
        assert!(BenchReport::new(vec![good.clone()], true, &disk).passed);
        let report = BenchReport::new(vec![good, bad], true, &disk);
        assert!(!report.passed);
        let text = report.to_string();
        assert!(text.contains("MISSED") && text.contains("<= 150 MB") && text.contains("ext4"), "{text}");
    }

    #[test]
    fn a_figure_that_could_not_be_measured_misses_its_goal() {
        assert!(!Figure::new("", f64::NAN, "", Goal::AtLeast(0.0)).met);
        assert!(!Figure::new("", f64::NAN, "", Goal::AtMost(9.0)).met);
    }
}
