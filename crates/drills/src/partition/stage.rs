//! The three programs, each on a machine of its own.

use std::time::Duration;

use tempfile::TempDir;

use super::catalogue::End;
use super::networks::Machine;
use crate::client::{Api2, Gateway, Http};
use crate::error::DrillError;
use crate::trio::API2;
use crate::trio::build::{API1_GATEWAY, API2_FLAKY, Programs, RETRY_WORKER};
use crate::trio::process::Process;
use crate::wait;

/// A program that listens is ready within this.
const READY: Duration = Duration::from_secs(20);

/// Machines of one stage.
const MACHINES: u8 = 3;

/// The programs and what is between them. Dropping it kills them all.
#[derive(Debug)]
pub(super) struct Stage {
    // They drop in this order: the worker first, so that it does not complain of a gateway that is gone.
    worker: Process,
    gateway: Process,
    destination: Process,
    machines: [Machine; MACHINES as usize],
    pub(super) client: Gateway,
    pub(super) api2: Api2,
    folder: TempDir,
}

impl Stage {
    /// The stage number `number`, from 0: no two at a time have the same.
    ///
    /// # Errors
    /// [`DrillError`] when a program does not get ready.
    pub(super) async fn set(programs: &Programs, number: u8, settings: &str) -> Result<Self, DrillError> {
        let folder = tempfile::Builder::new().prefix("holdfast-drill-").tempdir();
        let folder = folder.map_err(DrillError::io("make a folder for the drill"))?;
        let machine = async |index: u8| Machine::make(programs, MACHINES * number + index, folder.path()).await;
        let machines = [machine(1).await?, machine(2).await?, machine(3).await?];
        let [ours, workers, apis] = &machines;
        let start = |machine: &Machine, package: &str, arguments: &[String]| {
            Process::start_within(programs, &machine.network, package, arguments, folder.path())
        };
        let http = Http::new();
        let any = |machine: &Machine| format!("{}:0", machine.address);

        let mut api2 =
            start(apis, API2_FLAKY, &words(["--listen", &any(apis), "--control", &any(apis), "--start", "up"]))?;
        let at = api2.listening().await?;
        let control = at.control.unwrap_or(at.address);
        let steered = Api2::new(&format!("http://{}", at.address), &format!("http://{control}"), &http);

        let file = folder.path().join("destinations.toml");
        let table = format!("[destinations.{API2}]\nurl = \"{}/api2/simulate\"\n{settings}\n", steered.url());
        std::fs::write(&file, table).map_err(DrillError::io("write the destinations file"))?;
        let (store, file) = (format!("sqlite:{}", folder.path().join("jobs.db").display()), file.display().to_string());
        let arguments = words(["--listen", &any(ours), "--store", &store, "--config", &file]);
        let mut gateway = start(ours, API1_GATEWAY, &arguments)?;
        let client = Gateway::new(&format!("http://{}", gateway.listening().await?.address), &http);
        ready(&http, client.url(), "the gateway").await?;

        let arguments = words(["--listen", &any(workers), "--gateway", client.url()]);
        let mut worker = start(workers, RETRY_WORKER, &arguments)?;
        ready(&http, &format!("http://{}", worker.listening().await?.address), "the worker").await?;
        Ok(Stage { worker, gateway, destination: api2, machines, client, api2: steered, folder })
    }

    /// Begins a trouble, or ends it.
    ///
    /// # Errors
    /// [`DrillError::Io`]
    pub(super) fn cut(&self, ways: &[(End, End)], cut: bool) -> Result<(), DrillError> {
        ways.iter().try_for_each(|(from, to)| self.machine(*from).set_cut(self.machine(*to), cut))
    }

    /// The program at that end, to be stopped and resumed.
    pub(super) fn program(&mut self, end: End) -> &mut Process {
        match end {
            End::Gateway => &mut self.gateway,
            End::Worker => &mut self.worker,
            End::Destination => &mut self.destination,
        }
    }

    /// Leaves store and logs behind, and says where.
    pub(super) fn keep(&mut self) -> String {
        self.folder.disable_cleanup(true);
        self.folder.path().display().to_string()
    }

    fn machine(&self, end: End) -> &Machine {
        let [gateway, worker, destination] = &self.machines;
        match end {
            End::Gateway => gateway,
            End::Worker => worker,
            End::Destination => destination,
        }
    }
}

async fn ready(http: &Http, url: &str, what: &str) -> Result<(), DrillError> {
    let looked = wait::until(READY, async || http.is_ready(url).await.then_some(())).await;
    looked.ok_or_else(|| DrillError::never(format!("the start of {what}"), READY))
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}
