//! The command line's settings. Only texts: [`super::Config::read`] gives them their meaning together with the environment.

/// What was given on the command line. Every setting is also a variable; keys are variables or files only.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Flags {
    /// Address to listen on [API1_LISTEN] [default: 127.0.0.1:8080]
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub listen: Option<String>,

    /// Where jobs are kept: sqlite:PATH, or memory: [API1_STORE] [default: sqlite:data/jobs.db]
    #[arg(long, global = true, value_name = "STORE")]
    pub store: Option<String>,

    /// TOML file of destinations, read again on SIGHUP [API1_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<String>,

    /// A destination; repeat it for more [API1_DESTINATIONS, comma-separated] [default: api2=http://127.0.0.1:8082/api2/simulate]
    #[arg(long = "destination", global = true, value_name = "NAME=URL")]
    pub destinations: Vec<String>,

    /// Where a destination says whether it is healthy: 200 to a GET. Asked only while it is held; repeat it for more
    /// [API1_HEALTH_CHECKS, comma-separated]
    #[arg(long = "health-check", global = true, value_name = "NAME=URL")]
    pub health_checks: Vec<String>,

    /// Where jobs go that name no destination [API1_DEFAULT_DESTINATION] [default: the only one, or api2]
    #[arg(long, global = true, value_name = "NAME")]
    pub default_destination: Option<String>,

    /// New jobs are refused while the disk has less free than this, as in 256MiB [API1_MIN_FREE] [default: 256MiB]
    #[arg(long, global = true, value_name = "BYTES")]
    pub min_free: Option<String>,

    /// Largest payload [API1_MAX_BODY] [default: 1MiB]
    #[arg(long, global = true, value_name = "BYTES")]
    pub max_body: Option<String>,

    /// Jobs a second that are accepted from each client; more are refused with 429 [API1_MAX_ACCEPT_RATE] [default: no limit]
    #[arg(long, global = true, value_name = "NUMBER")]
    pub max_accept_rate: Option<String>,

    /// Folder for the copies that POST /api1/backup makes of the store [API1_BACKUP_DIR] [default: none are made]
    #[arg(long, global = true, value_name = "FOLDER")]
    pub backup_dir: Option<String>,

    /// Callbacks tell also that a job is still being tried, after so long [API1_STILL_TRYING_AFTER] [default: they do not]
    #[arg(long, global = true, value_name = "DURATION")]
    pub still_trying_after: Option<String>,

    /// URL that is told of trouble: gates that open and close, dead jobs, jobs long due [API1_ALERT_WEBHOOK] [default: none]
    #[arg(long, global = true, value_name = "URL")]
    pub alert_webhook: Option<String>,

    /// The webhook is told of a job that has been due for so long [API1_ALERT_OLDEST_DUE] [default: 15m]
    #[arg(long, global = true, value_name = "DURATION")]
    pub alert_oldest_due: Option<String>,

    /// An alarm is raised when due work has not been handed out for so long although workers are there [API1_STALLED_AFTER] [default: 60s]
    #[arg(long, global = true, value_name = "DURATION")]
    pub stalled_after: Option<String>,

    /// How long a stop waits for open requests [API1_GRACE] [default: 25s]
    #[arg(long, global = true, value_name = "DURATION")]
    pub grace: Option<String>,

    /// How long succeeded and cancelled jobs are kept [API1_RETAIN_SUCCEEDED] [default: 24h]
    #[arg(long, global = true, value_name = "DURATION")]
    pub retain_succeeded: Option<String>,

    /// How long dead jobs are kept [API1_RETAIN_DEAD] [default: 30d]
    #[arg(long, global = true, value_name = "DURATION")]
    pub retain_dead: Option<String>,

    /// Acknowledge before the disk has it: a drill's negative control, which must lose
    #[arg(long, global = true, hide = true)]
    pub unsynced: bool,

    /// Print the settings in effect, secrets hidden, and exit
    #[arg(long, global = true)]
    pub print_config: bool,
}
