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

#[test]
fn the_suite_runs_every_clause_there_is() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/conformance");
    let suite = std::fs::read_to_string(format!("{folder}.rs")).unwrap();
    let mut clauses = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let source = std::fs::read_to_string(file.unwrap().path()).unwrap();
        for declared in source.split("pub async fn ").skip(1) {
            let (name, rest) = declared.split_at(declared.find(['(', '<']).unwrap());
            let signature = rest.split('{').next().unwrap();
            let is_clause =
                signature.contains("under_test: &") && !signature.contains("self") && name != "differential";
            if is_clause && !signature.contains("->") {
                clauses += 1;
                assert!(suite.contains(&format!(" {name},")), "the suite forgets {name}");
            }
        }
    }
    assert!(clauses > 100, "only {clauses} clauses were found");
}
