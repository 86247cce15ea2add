//! The job store as workers see it: `/jobstore/v1/claim`, `settle` and `extend`.
//!
//! The worker reports facts; what they mean is decided behind [`jobs_core::store::JobStore`]. A message whose shape is right is never refused as
//! a whole because of one stale or invented lease in it: its result says so.

mod answer;
pub(crate) mod claim;
pub(crate) mod extend;
mod granted;
mod lease;
pub(crate) mod settle;
mod text;

use std::time::Duration;

use crate::body::Bounds;

pub(crate) use granted::Granted;

/// Of one message of a worker: some hundred answers of a destination kept whole (64 KiB each, a third more in base64).
pub(crate) const MESSAGE: Bounds = Bounds { max_bytes: 32 * 1024 * 1024, deadline: Duration::from_secs(30) };
