//! What an operator may say about a gate, for the person who must choose.

/// How far a gate may open, per destination. The defaults need no tuning: the dials find what the destination takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GateSettings {
    /// Calls in flight to begin with, when nothing is known. Raise it for a destination that is known to be large.
    pub start_limit: u32,
    /// Calls in flight the gate never goes beyond, however well it goes. Lower it for a destination that suffers silently.
    pub max_limit: u32,
}

impl Default for GateSettings {
    fn default() -> Self {
        GateSettings { start_limit: 16, max_limit: 1024 }
    }
}
