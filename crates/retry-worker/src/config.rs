//! The settings of retry-worker: flags, variables, defaults. Values are checked in [`Config::read`], all of them at once.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use clap::{Parser, Subcommand};
use jobs_core::process::secret::Secret;
use jobs_core::process::settings::Settings;
use jobs_core::protocol::MAX_SETTLE;
use reqwest::Url;
use reqwest::header::HeaderValue;

const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8081);

const DEFAULT_GATEWAY: &str = "http://127.0.0.1:8080";

/// Calls in flight by default: enough to keep 2,000 calls a second of a quarter second each going, few enough that their
/// sockets and answers fit in a small container.
const DEFAULT_CONCURRENCY: u32 = 512;

/// Most calls in flight: a worker may hold twice as many leases (see [`crate::held`]), and one heartbeat lists them all.
const MAX_CONCURRENCY: u32 = (MAX_SETTLE / 2) as u32;

/// How long calls may take to end after SIGTERM, by default: most do, and it stays below the half minute that
/// orchestrators grant.
const DEFAULT_GRACE: Duration = Duration::from_secs(25);

/// Claims jobs from a gateway, calls their destinations, and reports what happened. Start as many as you like.
#[derive(Debug, Parser)]
#[command(name = "retry-worker", version, about)]
pub struct Flags {
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Address of health and metrics [WORKER_LISTEN; default 127.0.0.1:8081]
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// A gateway to claim from; repeat it for gateways to fail over to [WORKER_GATEWAY, comma-separated; default http://127.0.0.1:8080]
    #[arg(long, global = true, value_name = "URL")]
    pub gateway: Vec<String>,
    /// Most calls in flight at a time, those included that are about to begin [WORKER_CONCURRENCY; default 512]
    #[arg(long, global = true, value_name = "CALLS")]
    pub concurrency: Option<String>,
    /// How long calls in flight may take to end after SIGTERM [WORKER_GRACE; default 25s]
    #[arg(long, global = true, value_name = "DURATION")]
    pub grace: Option<String>,
    /// A collector that is told of each attempt as a span, by OTLP over HTTP, such as http://127.0.0.1:4318 [WORKER_OTLP_ENDPOINT]
    #[cfg(feature = "otlp")]
    #[arg(long, global = true, value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// Show the settings as they are and exit
    #[arg(long)]
    pub print_config: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Exit 0 if a running retry-worker with the same settings is ready, else 1
    Healthcheck,
}

/// Checked settings.
#[derive(Debug, Clone)]
pub struct Config {
    pub listen: SocketAddr,
    /// At least one; the first is tried first.
    pub gateways: Vec<GatewayUrl>,
    /// Sent to gateways as `Authorization: Bearer`.
    pub token: Option<Secret>,
    /// Most calls in flight, 1 to 5,000.
    pub concurrency: u32,
    pub grace: Duration,
    /// Where spans go; none are made without.
    #[cfg(feature = "otlp")]
    pub otlp_endpoint: Option<CollectorUrl>,
}

impl Config {
    /// Reads the settings; mistakes become problems of `settings`.
    pub fn read(flags: &Flags, settings: &mut Settings) -> Self {
        let listen = settings.parsed("--listen", "WORKER_LISTEN", flags.listen.clone(), DEFAULT_LISTEN);
        let gateways = settings.list("--gateway", "WORKER_GATEWAY", flags.gateway.clone(), &[DEFAULT_GATEWAY]);
        if gateways.is_empty() {
            settings.problem("--gateway", "WORKER_GATEWAY", "names no gateway");
        }
        let gateways: Vec<GatewayUrl> = gateways
            .iter()
            .filter_map(|text| match text.parse() {
                Ok(url) => Some(url),
                Err(error) => {
                    settings.problem("--gateway", "WORKER_GATEWAY", &format!("{text:?}: {error}"));
                    None
                }
            })
            .collect();
        let token = settings.secret("WORKER_TOKEN");
        if token.as_ref().is_some_and(|token| bearer(token).is_none()) {
            settings.problem("", "WORKER_TOKEN", "has a character that no HTTP header can carry");
        }
        let concurrency =
            settings.parsed("--concurrency", "WORKER_CONCURRENCY", flags.concurrency.clone(), DEFAULT_CONCURRENCY);
        if !(1..=MAX_CONCURRENCY).contains(&concurrency) {
            let detail = format!("{concurrency} is not between 1 and {MAX_CONCURRENCY}");
            settings.problem("--concurrency", "WORKER_CONCURRENCY", &detail);
        }
        let grace = settings.duration("--grace", "WORKER_GRACE", flags.grace.clone(), DEFAULT_GRACE);
        #[cfg(feature = "otlp")]
        let otlp_endpoint = settings.optional("--otlp-endpoint", "WORKER_OTLP_ENDPOINT", flags.otlp_endpoint.clone());
        Config {
            listen,
            gateways,
            token,
            concurrency,
            grace,
            #[cfg(feature = "otlp")]
            otlp_endpoint,
        }
    }
}

/// The header value that shows `token`; `None` if a header cannot carry it.
pub(crate) fn bearer(token: &Secret) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose())).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Where a gateway is: an absolute `http` or `https` URL without user info, query and fragment, kept without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayUrl(String);

impl GatewayUrl {
    /// The URL of one verb of the gateway's job store, such as `claim`.
    pub(crate) fn verb(&self, verb: &str) -> String {
        format!("{}/jobstore/v1/{verb}", self.0)
    }
}

impl fmt::Display for GatewayUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a collector of spans is: of the same form as a gateway's.
#[cfg(feature = "otlp")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectorUrl(GatewayUrl);

#[cfg(feature = "otlp")]
impl CollectorUrl {
    /// Where OTLP over HTTP has its traces.
    pub(crate) fn traces(&self) -> String {
        format!("{}/v1/traces", self.0)
    }
}

#[cfg(feature = "otlp")]
impl fmt::Display for CollectorUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(feature = "otlp")]
impl FromStr for CollectorUrl {
    type Err = NotAGatewayUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(CollectorUrl)
    }
}

/// Why a text is not the URL of a gateway, or of a collector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAGatewayUrl {
    #[error("not a URL such as http://127.0.0.1:8080 ({0})")]
    NotAUrl(String),
    #[error("must begin with http:// or https://")]
    Scheme,
    #[error("must not have a user, password, query or fragment; secrets have variables of their own")]
    Decorated,
}

impl FromStr for GatewayUrl {
    type Err = NotAGatewayUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url = Url::parse(text).map_err(|error| NotAGatewayUrl::NotAUrl(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(NotAGatewayUrl::Scheme);
        }
        let decorated = !url.username().is_empty() || url.password().is_some() || url.query().is_some();
        if decorated || url.fragment().is_some() {
            return Err(NotAGatewayUrl::Decorated);
        }
        Ok(GatewayUrl(url.as_str().trim_end_matches('/').to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str], environment: &[(&str, &str)]) -> (Config, Settings) {
        let flags = Flags::parse_from(["retry-worker"].iter().chain(args));
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).into()));
        let mut settings = Settings::new("WORKER_", environment);
        (Config::read(&flags, &mut settings), settings)
    }

    #[test]
    fn by_default_it_calls_the_gateway_on_this_machine() {
        let (config, settings) = read(&[], &[]);
        assert_eq!(config.listen.port(), 8081);
        assert_eq!(config.gateways[0].verb("claim"), "http://127.0.0.1:8080/jobstore/v1/claim");
        assert_eq!((config.concurrency, config.grace), (512, Duration::from_secs(25)));
        assert!(settings.finish().is_ok());
    }

    #[test]
    fn several_gateways_come_from_the_flag_or_the_variable() {
        let both = ["http://a:1", "https://b/holdfast"].map(|text| text.parse().unwrap());
        assert_eq!(read(&["--gateway", "http://a:1/", "--gateway", "https://b/holdfast/"], &[]).0.gateways, both);
        assert_eq!(read(&[], &[("WORKER_GATEWAY", "http://a:1, https://b/holdfast")]).0.gateways, both);
    }

    #[test]
    fn every_bad_setting_is_named_at_once() {
        let flags = ["--concurrency", "0", "--gateway", "ftp://a", "--gateway", "http://u:p@a", "--gateway", "a"];
        let (_, settings) = read(&flags, &[("WORKER_TOKEN", "a\nb"), ("WORKER_GRACE", "10")]);
        let report = settings.finish().unwrap_err().to_string();
        for expected in [
            "0 is not between 1 and 5000",
            "\"ftp://a\": must begin",
            "\"http://u:p@a\": must not",
            "\"a\": not a URL",
            "WORKER_TOKEN: has",
            "--grace / WORKER_GRACE",
        ] {
            assert!(report.contains(expected), "{expected} in {report}");
        }
    }

    #[cfg(feature = "otlp")]
    #[test]
    fn spans_go_nowhere_without_an_otlp_endpoint() {
        assert_eq!(read(&[], &[]).0.otlp_endpoint, None);
        let (config, _) = read(&[], &[("WORKER_OTLP_ENDPOINT", "https://collector/otlp/")]);
        assert_eq!(config.otlp_endpoint.unwrap().traces(), "https://collector/otlp/v1/traces");
        let (_, settings) = read(&["--otlp-endpoint", "http://u:p@a"], &[]);
        let report = settings.finish().unwrap_err().to_string();
        assert!(report.contains("--otlp-endpoint / WORKER_OTLP_ENDPOINT: \"http://u:p@a\": must not"), "{report}");
    }
}
