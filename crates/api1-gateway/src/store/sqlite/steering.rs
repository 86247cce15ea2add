//! [`Steering`]: what operators ask of the store, as questions to the writer and the readers.

use async_trait::async_trait;
use jobs_core::job::JobId;
use jobs_core::redrive::{Change, MassRedrive, Plan, Unfit};
use jobs_core::steering::{Act, AuditLine, Redriven, Resolution, Resolve, Steering};
use jobs_core::store::{Filter, Page, Steered, StoreError};
use jobs_core::time::Now;

use super::batch::Batch;
use super::operation::{Class, Cost};
use super::{ONE, SqliteStore, list, operators};

#[async_trait]
impl Steering for SqliteStore {
    async fn find(&self, filter: Filter, above: u64, limit: u32) -> Result<Page, StoreError> {
        self.readers.read(move |conn| list::find(conn, &filter, above, limit)).await
    }

    async fn resolve(&self, id: JobId, resolution: Resolution) -> Result<Steered<Resolve>, StoreError> {
        let work = move |batch: &mut Batch<'_>| Ok(operators::resolve(batch, id, &resolution)?);
        self.queue.ask(Class::Enqueue, ONE, work).await
    }

    async fn start_redrive(&self, plan: Plan, by: String, now: Now) -> Result<MassRedrive, StoreError> {
        let work = move |batch: &mut Batch<'_>| Ok(operators::start(batch, plan, by, now.wall)?);
        self.queue.ask(Class::Enqueue, ONE, work).await
    }

    async fn mass_redrive(&self, number: u32) -> Result<Option<MassRedrive>, StoreError> {
        self.readers.read(move |conn| operators::read(conn, number)).await
    }

    async fn mass_redrives(&self, limit: u32) -> Result<Vec<MassRedrive>, StoreError> {
        self.readers.read(move |conn| operators::read_all(conn, limit)).await
    }

    async fn change_redrive(
        &self,
        number: u32,
        change: Change,
        now: Now,
    ) -> Result<Option<(Result<(), Unfit>, MassRedrive)>, StoreError> {
        let work = move |batch: &mut Batch<'_>| Ok(operators::change(batch, number, change, now.wall)?);
        self.queue.ask(Class::Enqueue, ONE, work).await
    }

    async fn redrive_step(
        &self,
        number: u32,
        jobs: Vec<JobId>,
        to: u64,
        end: bool,
        now: Now,
    ) -> Result<Option<Redriven>, StoreError> {
        let cost = Cost { jobs: jobs.len().max(1), bytes: 0 };
        let work = move |batch: &mut Batch<'_>| Ok(operators::step(batch, number, &jobs, to, end, now.wall)?);
        self.queue.ask(Class::Enqueue, cost, work).await
    }

    async fn note(&self, act: Act) -> Result<(), StoreError> {
        self.queue.ask(Class::Enqueue, ONE, move |batch| Ok(operators::note(batch.conn, &act)?)).await
    }

    async fn audit(&self, below: Option<u64>, limit: u32) -> Result<Vec<AuditLine>, StoreError> {
        self.readers.read(move |conn| operators::audit(conn, below, limit)).await
    }
}
