//! The dashboard in a real Chromium, against the real programs. Needs Debian's `chromium` and `chromium-driver`, and axe-core's script at
//! `AXE_JS`; `.ci/run` installs them. Whatever is missing is a failure here, never a skip.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod access;
mod browser;
mod dead_letters;
mod destination;
mod drill;
mod job;
mod jobs;
mod looks;
mod overview;
mod stage;
