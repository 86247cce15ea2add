//! The three real programs, started for a drill on free ports with a store of their own, and killed with it.
//!
//! A trio has one gateway, any number of workers, and one api2-flaky for each destination. It can be broken in every way a
//! drill wants: kill -9, SIGTERM, SIGSTOP, a start over the same store and port. It decides nothing about jobs.

pub mod audited;
pub mod build;
mod destinations;
pub mod leash;
pub mod ports;
pub mod process;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use tempfile::TempDir;

use crate::client::{Api2, Gateway, Http};
use crate::wait;
use audited::Audited;
use build::{API1_GATEWAY, API2_FLAKY, Programs, RETRY_WORKER};
use ports::{ANY_PORT, Listening};
use process::Process;

/// A program that listens is ready within this: the gateway may have a large store to open.
const READY_LIMIT: Duration = Duration::from_secs(20);

/// The destination every drill has, by the name the gateway gives its default one.
pub const API2: &str = "api2";

/// The store's file, in the trio's folder.
const STORE: &str = "jobs.db";

/// Why a drill's programs do not run as they should.
#[derive(Debug, thiserror::Error)]
pub enum TrioError {
    #[error("cannot {doing}: {source}")]
    Io { doing: &'static str, source: io::Error },
    #[error("cargo build failed ({status}); mend what it says and try again\n{output}")]
    Build { status: ExitStatus, output: String },
    #[error("{program} is not in {}: build the whole workspace first", folder.display())]
    Missing { program: &'static str, folder: PathBuf },
    #[error("{name} ended ({status}); its log ends with\n{log}")]
    Ended { name: String, status: ExitStatus, log: String },
    #[error("{name} was not ready within {within:?}; its log ends with\n{log}")]
    NotReady { name: String, within: Duration, log: String },
    #[error("the store cannot be audited: {0}")]
    Unjudged(String),
    #[error("{name} still runs after {within:?}")]
    StillRunning { name: String, within: Duration },
}

impl TrioError {
    pub(crate) fn io(doing: &'static str, source: io::Error) -> Self {
        TrioError::Io { doing, source }
    }
}

/// What to start.
#[derive(Debug, Clone)]
pub struct Plan {
    pub workers: usize,
    /// The destinations, by name; each gets an api2-flaky of its own.
    pub destinations: Vec<String>,
    /// Whether they are up at the start; as in the original design they are not.
    pub up: bool,
    /// Whether the gateway knows where they say that they are healthy.
    pub health_checks: bool,
    /// More lines of every destination's table in the gateway's settings.
    pub destination_settings: String,
    /// Where the gateway finds a destination, by name, if somebody stands between the two.
    pub by_way_of: Vec<(String, SocketAddr)>,
    /// More flags for the gateway, the workers.
    pub gateway_flags: Vec<String>,
    pub worker_flags: Vec<String>,
    /// Where the trio's own folder is made; by default among the system's temporary files.
    pub within: Option<PathBuf>,
    /// Variables for the gateway.
    pub gateway_variables: Vec<(String, String)>,
    /// A folder for the store's file; by default the trio's own.
    pub store_in: Option<PathBuf>,
    /// There is no such file: the gateway keeps its jobs in memory.
    pub in_memory: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Plan {
            workers: 1,
            destinations: vec![API2.to_owned()],
            up: false,
            health_checks: false,
            destination_settings: String::new(),
            by_way_of: Vec::new(),
            gateway_flags: Vec::new(),
            worker_flags: Vec::new(),
            within: None,
            gateway_variables: Vec::new(),
            store_in: None,
            in_memory: false,
        }
    }
}

/// The running programs. Dropping it kills them all and removes their folder, unless the thread panics: then the logs stay.
#[derive(Debug)]
pub struct Trio {
    // Fields drop in this order: workers first, so that they do not complain of a gateway that is gone.
    workers: Vec<Process>,
    gateway_process: Process,
    /// Their processes, kept to be killed with the others.
    _apis: Vec<Process>,
    gateway: Gateway,
    apis: Vec<(String, Api2)>,
    http: Http,
    programs: Programs,
    plan: Plan,
    folder: TempDir,
    workers_started: usize,
    destination_flags: Vec<String>,
}

impl Trio {
    /// Starts what `plan` says and waits until all of it is ready. The programs live no longer than the calling thread.
    ///
    /// # Errors
    /// [`TrioError`] when one of them does not get ready; none is left running.
    pub async fn start(programs: &Programs, plan: Plan) -> Result<Self, TrioError> {
        let folder = new_folder(plan.within.as_deref())?;
        let http = Http::new();
        let (mut api_processes, mut apis) = (Vec::new(), Vec::new());
        for name in &plan.destinations {
            let (process, client) = start_api(programs, name, plan.up, folder.path(), &http).await?;
            api_processes.push(process);
            apis.push((name.clone(), client));
        }
        let destination_flags = destinations::flags(&apis, &plan, folder.path())?;
        let arguments = gateway_arguments(ANY_PORT, folder.path(), &destination_flags, &plan);
        let variables = &plan.gateway_variables;
        let mut gateway_process =
            Process::start_with(programs, API1_GATEWAY, "gateway", &arguments, folder.path(), variables)?;
        let at = gateway_process.listening().await?;
        ready(&mut gateway_process, &format!("http://{}", at.address), &http).await?;
        let gateway = Gateway::new(&format!("http://{}", at.address), &http);
        let workers = plan.workers;
        let mut trio = Trio {
            workers: Vec::new(),
            gateway_process,
            _apis: api_processes,
            gateway,
            apis,
            http,
            programs: programs.clone(),
            plan,
            folder,
            workers_started: 0,
            destination_flags,
        };
        for _ in 0..workers {
            trio.add_worker().await?;
        }
        Ok(trio)
    }

    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// The destination [`API2`].
    pub fn api2(&self) -> &Api2 {
        self.api(API2)
    }

    /// The destination of that name.
    ///
    /// # Panics
    /// When the plan named no such destination.
    pub fn api(&self, name: &str) -> &Api2 {
        let found = self.apis.iter().find(|(api, _)| api == name);
        &found.expect("a drill asks only for destinations of its plan").1
    }

    pub fn gateway_process(&mut self) -> &mut Process {
        &mut self.gateway_process
    }

    /// The workers in the order they were started; those that were killed included.
    pub fn workers(&mut self) -> &mut [Process] {
        &mut self.workers
    }

    /// Where the trio's store and logs are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts one more worker and waits until it is ready.
    ///
    /// # Errors
    /// [`TrioError`] when it does not get ready.
    pub async fn add_worker(&mut self) -> Result<&mut Process, TrioError> {
        self.workers_started += 1;
        let name = format!("worker-{}", self.workers_started);
        let arguments = self.worker_arguments();
        let started = start_ready(&self.programs, RETRY_WORKER, &name, &arguments, self.folder.path(), &self.http);
        let (process, _) = started.await?;
        self.workers.push(process);
        Ok(self.workers.last_mut().expect("one was just pushed"))
    }

    /// Starts the gateway again, over the same store and on the same port, and waits until it is ready. It must have ended.
    ///
    /// # Errors
    /// [`TrioError`] when it does not get ready.
    pub async fn restart_gateway(&mut self) -> Result<(), TrioError> {
        self.begin_gateway(false)?;
        self.gateway_ready().await
    }

    /// Starts the gateway again, over the same store and on the same port, and waits for nothing. It must have ended. `stopped`: it
    /// stands still just before it begins, until [`Process::resume`].
    ///
    /// # Errors
    /// [`TrioError::Io`] when the program cannot be started at all.
    pub fn begin_gateway(&mut self, stopped: bool) -> Result<(), TrioError> {
        let arguments = self.gateway_arguments(self.gateway.address());
        let mut variables = self.plan.gateway_variables.clone();
        variables.extend(stopped.then(|| (leash::STOPPED.to_owned(), "1".to_owned())));
        let folder = self.folder.path();
        let started = Process::start_with(&self.programs, API1_GATEWAY, "gateway", &arguments, folder, &variables);
        self.gateway_process = started?;
        Ok(())
    }

    /// Waits until a gateway that was begun can serve.
    ///
    /// # Errors
    /// [`TrioError`] when it ends instead, or does not get ready.
    pub async fn gateway_ready(&mut self) -> Result<(), TrioError> {
        self.gateway_process.listening().await?;
        ready(&mut self.gateway_process, self.gateway.url(), &self.http).await
    }

    /// Starts the gateway again, and kills it before it can be of use. It must have ended.
    ///
    /// # Errors
    /// [`TrioError::Io`] when the program cannot be started at all.
    pub async fn cut_start_short(&mut self, after: Duration) -> Result<(), TrioError> {
        self.begin_gateway(false)?;
        tokio::time::sleep(after).await;
        self.gateway_process.kill();
        Ok(())
    }

    /// Starts worker `number` again, in the place of the one that has ended, and waits until it is ready.
    ///
    /// # Errors
    /// [`TrioError`] when it does not get ready.
    ///
    /// # Panics
    /// When there was no such worker.
    pub async fn restart_worker(&mut self, number: usize) -> Result<(), TrioError> {
        let name = self.workers[number].name().to_owned();
        let arguments = self.worker_arguments();
        let folder = self.folder.path();
        let started = start_ready(&self.programs, RETRY_WORKER, &name, &arguments, folder, &self.http);
        self.workers[number] = started.await?.0;
        Ok(())
    }

    /// The gateway's own audit of its store; it must have ended.
    ///
    /// # Errors
    /// [`TrioError`] when it cannot be run, or cannot judge the store.
    pub fn audit(&self) -> Result<Audited, TrioError> {
        audited::audit(&self.programs, &self.store())
    }

    /// The file of the store.
    pub fn store(&self) -> PathBuf {
        store_file(self.folder.path(), &self.plan)
    }

    /// Starts a second gateway over the same store, on a port of its own, without waiting for anything.
    ///
    /// # Errors
    /// [`TrioError::Io`] when the program cannot be started at all.
    pub fn start_rival_gateway(&self) -> Result<Process, TrioError> {
        let arguments = self.gateway_arguments(ANY_PORT);
        Process::start(&self.programs, API1_GATEWAY, "rival-gateway", &arguments, self.folder.path())
    }

    /// Leaves the folder with store and logs behind when the programs are gone, and says where it is.
    pub fn keep_folder(&mut self) -> PathBuf {
        self.folder.disable_cleanup(true);
        self.folder.path().to_path_buf()
    }

    fn worker_arguments(&self) -> Vec<String> {
        let mut arguments = flags(["--listen", ANY_PORT, "--gateway", self.gateway.url()]);
        arguments.extend(self.plan.worker_flags.iter().cloned());
        arguments
    }

    fn gateway_arguments(&self, listen: &str) -> Vec<String> {
        gateway_arguments(listen, self.folder.path(), &self.destination_flags, &self.plan)
    }
}

impl Drop for Trio {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("store and logs of the failed drill stay in {}", self.keep_folder().display());
        }
    }
}

fn new_folder(within: Option<&Path>) -> Result<TempDir, TrioError> {
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix("holdfast-drill-");
    let made = match within {
        Some(parent) => std::fs::create_dir_all(parent).and_then(|()| builder.tempdir_in(parent)),
        None => builder.tempdir(),
    };
    made.map_err(|source| TrioError::io("make a folder for the drill", source))
}

fn gateway_arguments(listen: &str, folder: &Path, destinations: &[String], plan: &Plan) -> Vec<String> {
    let store =
        if plan.in_memory { "memory:".to_owned() } else { format!("sqlite:{}", store_file(folder, plan).display()) };
    let mut arguments = flags(["--listen", listen, "--store", &store]);
    arguments.extend(destinations.iter().chain(&plan.gateway_flags).cloned());
    arguments
}

fn store_file(folder: &Path, plan: &Plan) -> PathBuf {
    plan.store_in.as_deref().unwrap_or(folder).join(STORE)
}

async fn start_api(
    programs: &Programs,
    name: &str,
    up: bool,
    folder: &Path,
    http: &Http,
) -> Result<(Process, Api2), TrioError> {
    let start = if up { "up" } else { "down" };
    let arguments = flags(["--listen", ANY_PORT, "--control", ANY_PORT, "--start", start]);
    let mut process = Process::start(programs, API2_FLAKY, name, &arguments, folder)?;
    let at = process.listening().await?;
    let control = at.control.unwrap_or(at.address);
    let client = Api2::new(&format!("http://{}", at.address), &format!("http://{control}"), http);
    ready(&mut process, &format!("http://{control}"), http).await?;
    Ok((process, client))
}

async fn start_ready(
    programs: &Programs,
    package: &str,
    name: &str,
    arguments: &[String],
    folder: &Path,
    http: &Http,
) -> Result<(Process, Listening), TrioError> {
    let mut process = Process::start(programs, package, name, arguments, folder)?;
    let at = process.listening().await?;
    ready(&mut process, &format!("http://{}", at.address), http).await?;
    Ok((process, at))
}

async fn ready(process: &mut Process, url: &str, http: &Http) -> Result<(), TrioError> {
    let looked = wait::until(READY_LIMIT, async || {
        if http.is_ready(url).await {
            return Some(Ok(()));
        }
        process.ended().map(|status| Err(process.end(status)))
    });
    match looked.await {
        Some(found) => found,
        None => Err(process.not_ready(READY_LIMIT)),
    }
}

fn flags<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}
