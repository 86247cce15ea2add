//! The gateway's audit of a store file, as an operator would run it.

use std::path::Path;
use std::process::{Command, Stdio};

use super::TrioError;
use super::build::{API1_GATEWAY, Programs};

/// What the audit said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audited {
    pub holds: bool,
    /// Its lines; the last one says how much was looked at.
    pub lines: Vec<String>,
}

/// Audits the store at `path`, which no gateway has open.
///
/// # Errors
/// [`TrioError::Unjudged`] with the audit's own words where it could not judge the file.
pub fn audit(programs: &Programs, path: &Path) -> Result<Audited, TrioError> {
    let mut command = Command::new(programs.path(API1_GATEWAY));
    command.arg("audit").arg("--store").arg(format!("sqlite:{}", path.display()));
    for (variable, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("API1_")) {
        command.env_remove(variable);
    }
    let output = command.stdin(Stdio::null()).output().map_err(|source| TrioError::io("run the audit", source))?;
    let lines = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    match output.status.code() {
        Some(0) => Ok(Audited { holds: true, lines }),
        Some(1) => Ok(Audited { holds: false, lines }),
        _ => Err(TrioError::Unjudged(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
    }
}

impl Audited {
    /// What it found, for a report; nothing where all is well.
    pub fn findings(&self) -> Vec<String> {
        if self.holds { Vec::new() } else { self.lines.iter().map(|line| format!("audit: {line}")).collect() }
    }
}
