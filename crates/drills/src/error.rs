//! Why a drill could not be played to its end. What goes wrong with the jobs is no error: it is what a report is for.

use std::io;

use crate::client::CallError;
use crate::image::ImageError;
use crate::trio::TrioError;

#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    #[error(transparent)]
    Trio(#[from] TrioError),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error("cannot {doing}: {source}")]
    Io { doing: &'static str, source: io::Error },
    #[error("{what} did not happen within {limit:?}")]
    Never { what: String, limit: std::time::Duration },
}

impl DrillError {
    pub(crate) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| DrillError::Io { doing, source }
    }

    pub(crate) fn never(what: impl Into<String>, limit: std::time::Duration) -> Self {
        DrillError::Never { what: what.into(), limit }
    }
}
