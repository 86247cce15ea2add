//! The SQLite store: the contract that all stores share, and what is its own.

mod audit;
mod backup;
mod crash;
mod log;
mod opening;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use api1_gateway::store::sqlite::SqliteStore;
use jobs_core::conformance::{StoreUnderTest, differential};
use jobs_core::job::{JobId, NewJob, Tick};
use jobs_core::store::{Grant, JobStore};
use jobs_core::time::Now;
use tempfile::TempDir;

jobs_core::conformance_suite!(sqlite, Sqlite::new());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_long_scripts_are_answered_as_the_reference_model_answers() {
    for seed in 1_000..1_020 {
        let database = Sqlite::new();
        let store = differential(&database, seed, 400).await;
        audit::finds_nothing(&database.crashed()).await;
        drop(store);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_that_come_in_together_share_commits() {
    const JOBS: u128 = 200;
    let database = Sqlite::new();
    let store = Arc::new(database.open_sqlite());
    let before = store.commits();
    let enqueues = (1..=JOBS).map(|n| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.enqueue(vec![job(n)], BEGIN).await })
    });
    for enqueue in enqueues.collect::<Vec<_>>() {
        enqueue.await.expect("no panic").expect("the job is accepted");
    }
    assert_eq!(store.stats().await.expect("stats are read").accepted, 200);
    let commits = u128::from(store.commits() - before);
    assert!(commits < JOBS / 2, "{commits} commits for {JOBS} jobs");
}

#[tokio::test]
async fn pages_full_of_new_jobs_are_not_split_when_they_are_claimed() {
    let database = Sqlite::new();
    let store = database.open_sqlite();
    store.enqueue((1..=1_000).map(job).collect(), BEGIN).await.expect("the jobs are accepted");
    let before = database.pages_in_use();
    // As in a store that was opened very often: ticks are long numbers.
    let grant = Grant { begun: Tick(i64::MAX.cast_unsigned()), ok_begun: Tick(1 << 50), ..Rig::grant(1_000, 0) };
    let claimed = store.claim(WORKER, vec![grant], BEGIN).await.expect("a claim is answered");
    assert_eq!(claimed.leases.len(), 1_000);
    // The index of leases grows by as many as that of waiting jobs shrinks, or fewer.
    assert!(database.pages_in_use() <= before + 2, "{} pages, and {before} before", database.pages_in_use());
}

use jobs_core::conformance::rig::{BEGIN, Rig, WORKER};

/// A job with an id of its own, and nothing special.
fn job(n: u128) -> NewJob {
    use jobs_core::job::{Priority, Request};
    NewJob {
        id: JobId(uuid::Uuid::from_u128(n)),
        id_is_new: false,
        destination: jobs_core::conformance::rig::api2(),
        request: Request { body: format!("the body of job {n}").into(), ..Request::default() },
        idempotency: None,
        run_at: BEGIN.wall,
        expires_after: None,
        priority: Priority::default(),
        ordering_key: None,
        max_attempts: None,
        traceparent: None,
        redriven_from: None,
        callback: None,
    }
}

/// A database file in a folder of its own.
struct Sqlite {
    folder: TempDir,
}

impl Sqlite {
    fn new() -> Self {
        Sqlite { folder: tempfile::tempdir().expect("a folder for the test") }
    }

    /// Pages that hold something.
    fn pages_in_use(&self) -> i64 {
        let conn = rusqlite::Connection::open(self.path()).expect("the file opens");
        let pragma = |name| conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).expect("a pragma is read");
        pragma("page_count") - pragma("freelist_count")
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("jobs.db")
    }

    fn open_sqlite(&self) -> SqliteStore {
        SqliteStore::open(&self.path(), BEGIN).expect("the store opens")
    }

    /// The files as a crash of the process would leave them at this moment. Copied one after the other, so nothing may write to
    /// them meanwhile: the store is open and idle.
    fn crashed(&self) -> Sqlite {
        let copy = Sqlite::new();
        for suffix in ["", "-wal"] {
            std::fs::copy(with_suffix(&self.path(), suffix), with_suffix(&copy.path(), suffix))
                .expect("a file is copied");
        }
        copy
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

impl StoreUnderTest for Sqlite {
    const DURABLE: bool = true;

    async fn open(&self, now: Now) -> Arc<dyn JobStore> {
        Arc::new(SqliteStore::open(&self.path(), now).expect("the store opens"))
    }

    async fn rot(&self, id: JobId) -> bool {
        let conn = rusqlite::Connection::open(self.path()).expect("the file opens");
        let sql = "UPDATE request SET content_type = 'text/rotten' WHERE seq = (SELECT seq FROM job WHERE id = ?)";
        conn.execute(sql, [id.0.as_bytes().as_slice()]).expect("the row is there") == 1
    }
}
