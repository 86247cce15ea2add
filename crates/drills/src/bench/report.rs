//! All figures of one run, and the machine they are of.

use std::fmt;

use serde::Serialize;

use super::disk::Disk;
use super::usage;
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
}

impl BenchReport {
    pub(super) fn new(figures: Vec<Figure>, quick: bool, disk: &Disk) -> Self {
        let (append, overwrite) = disk.sync_p50_ms();
        BenchReport {
            passed: all_met(&figures),
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
        assert!(BenchReport::new(vec![good.clone()], true, &disk).passed);
        let report = BenchReport::new(vec![good, bad], true, &disk);
        assert!(!report.passed);
        assert!(report.to_string().contains("ext4"), "{report}");
    }
}
