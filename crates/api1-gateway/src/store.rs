//! Where jobs are kept: opening the store that `--store` names.

pub mod sqlite;

use std::sync::Arc;

use jobs_core::memory::MemoryStore;
use jobs_core::store::{JobStore, StoreError};
use jobs_core::time::Now;

use crate::config::store_url::StoreUrl;

pub use sqlite::Terms;
pub use sqlite::audit::Audit;

/// Opens a store. Leases found in it get a full term from `now`. Blocks, for as long as recovery from a crash takes.
///
/// Errors are [`StoreError::Unusable`], with a text for the operator that names the file and what to do.
pub fn open(url: &StoreUrl, terms: Terms, now: Now) -> Result<Arc<dyn JobStore>, StoreError> {
    Ok(match url {
        StoreUrl::Memory => Arc::new(MemoryStore::new()),
        StoreUrl::Sqlite(path) => Arc::new(sqlite::SqliteStore::open_on(path, terms, now)?),
    })
}

/// Checks what is kept in a store that nobody has open.
///
/// Errors are [`StoreError::Unusable`]: it cannot be judged, with the reason.
pub fn audit(url: &StoreUrl) -> Result<Audit, StoreError> {
    match url {
        StoreUrl::Memory => Err(StoreError::Unusable("a store in memory leaves nothing to audit".to_owned())),
        StoreUrl::Sqlite(path) => sqlite::audit::audit(path),
    }
}
