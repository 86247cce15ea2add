//! The shell the three services and the drills share: settings, logs, clock, shutdown, health, supervised tasks.
//!
//! It exists so that every program of ours reads its settings, reports its mistakes, logs and dies in the same way. It decides
//! nothing about jobs; the rules in the rest of this crate never use it, and everything here is I/O at the edge.

pub mod clock;
pub mod duration;
pub mod files;
pub mod health;
pub mod logging;
pub mod secret;
pub mod settings;
pub mod shutdown;
pub mod tasks;
