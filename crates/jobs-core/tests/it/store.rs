//! The memory store keeps the contract of all stores.

use std::sync::{Arc, Mutex};

use jobs_core::conformance::StoreUnderTest;
use jobs_core::job::JobId;
use jobs_core::memory::MemoryStore;
use jobs_core::store::JobStore;
use jobs_core::time::Now;

/// A memory store as it is used, remembered here so that its requests can be spoilt.
#[derive(Default)]
struct Memory(Mutex<Option<Arc<MemoryStore>>>);

impl StoreUnderTest for Memory {
    const DURABLE: bool = false;

    async fn open(&self, _: Now) -> Arc<dyn JobStore> {
        let store = Arc::new(MemoryStore::new());
        *self.0.lock().unwrap() = Some(Arc::clone(&store));
        store
    }

    async fn rot(&self, id: JobId) -> bool {
        self.0.lock().unwrap().as_ref().is_some_and(|store| store.rot(id).unwrap())
    }
}

jobs_core::conformance_suite!(memory, Memory::default());

/// A memory store that restarts with what it held: the model of a durable one.
#[derive(Default)]
struct Restarting(Mutex<Option<Arc<MemoryStore>>>);

impl StoreUnderTest for Restarting {
    const DURABLE: bool = true;

    async fn open(&self, now: Now) -> Arc<dyn JobStore> {
        let mut kept = self.0.lock().unwrap();
        match &*kept {
            Some(store) => store.restart(now).unwrap(),
            None => *kept = Some(Arc::new(MemoryStore::new())),
        }
        Arc::clone(kept.as_ref().unwrap()) as Arc<dyn JobStore>
    }

    async fn rot(&self, id: JobId) -> bool {
        self.0.lock().unwrap().as_ref().is_some_and(|store| store.rot(id).unwrap())
    }
}

jobs_core::conformance_suite!(restarting_memory, Restarting::default());
