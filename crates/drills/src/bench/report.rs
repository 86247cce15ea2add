//! All figures of one run, and the machine they are of.

use std::fmt;

use serde::Serialize;

use super::disk::Disk;
use super::{picture, usage};
use crate::chart::Chart;
use crate::figure::{Figure, Table, all_met};

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
    /// What happened over time.
    #[serde(skip)]
    charts: Vec<Chart>,
}

impl BenchReport {
    pub(super) fn new(figures: Vec<Figure>, charts: Vec<Chart>, quick: bool, disk: &Disk) -> Self {
        let (append, overwrite) = disk.sync_p50_ms();
        BenchReport {
            passed: all_met(&figures),
            quick,
            cores: usage::cores(),
            file_system: disk.file_system.clone(),
            fdatasync_append_p50_ms: append,
            fdatasync_overwrite_p50_ms: overwrite,
            figures,
            charts,
        }
    }

    /// All figures beside their goals, as SVG.
    pub fn picture(&self) -> String {
        picture::draw(&self.figures, &self.machine())
    }

    /// What happened over time, where that was measured.
    pub fn charts(&self) -> &[Chart] {
        &self.charts
    }

    fn machine(&self) -> String {
        let (append, overwrite) = (self.fdatasync_append_p50_ms, self.fdatasync_overwrite_p50_ms);
        let quick = if self.quick { "; quick run" } else { "" };
        format!(
            "{} cores; {}; fdatasync p50 {append:.2} ms after an append, {overwrite:.2} ms after an overwrite{quick}",
            self.cores, self.file_system
        )
    }
}

impl fmt::Display for BenchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.machine())?;
        write!(f, "{}", Table(&self.figures))?;
        write!(f, "\n{}", if self.passed { "All goals were met." } else { "Not all goals were met." })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::Goal;

    #[test]
    fn a_figure_that_misses_its_goal_fails_the_run() {
        let disk = Disk::of_no_folder("ext4");
        let good = Figure::new("a ratio", 0.7, "", Goal::AtLeast(0.6));
        let bad = Figure::new("memory", 200.0, "MB", Goal::AtMost(150.0));
        assert!(BenchReport::new(vec![good.clone()], Vec::new(), true, &disk).passed);
        let report = BenchReport::new(vec![good, bad], Vec::new(), true, &disk);
        assert!(!report.passed);
        assert!(report.to_string().contains("ext4"), "{report}");
    }
}
