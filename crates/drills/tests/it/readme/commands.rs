//! Runs the README's commands, as far as a test can: `cargo …` is checked against cargo's and the programs' own words, `curl …` is
//! sent to a running trio.

use std::collections::BTreeSet;

use drills::client::{Accepted, Answer, Http};
use drills::trio::{Plan, Trio};
use reqwest::Method;

use super::{flags_in_help, readme, repository, shell};
use crate::support::start;

/// Cargo's own subcommands that the README uses.
const CARGO: [&str; 6] = ["bench", "build", "run", "test", "fmt", "clippy"];

/// What may stand for a job's id in a URL.
const PLACEHOLDERS: [&str; 4] = ["{id}", "<id>", "$ID", "$id"];

#[test]
fn every_cargo_command_in_the_readme_exists_with_its_flags() {
    let aliases = std::fs::read_to_string(repository().join(".cargo/config.toml")).unwrap();
    let commands = shell::commands(&readme());
    let cargo: Vec<&[String]> = commands.iter().filter_map(|words| after_cargo(words)).collect();
    assert!(!cargo.is_empty(), "README.md shows no cargo command");
    for words in cargo {
        let (verb, rest) = words.split_first().expect("cargo is told to do something");
        match verb.as_str() {
            "drill" | "up" => {
                assert!(aliases.contains(&format!("\n{verb} = ")), "no alias cargo {verb}");
                let first = if verb == "up" { Some("up") } else { None };
                let subcommand = rest.first().map(String::as_str).filter(|word| !word.starts_with('-')).or(first);
                check_flags("drill", subcommand.as_slice(), rest);
            }
            "run" => {
                let package = rest.iter().skip_while(|word| !matches!(word.as_str(), "-p" | "--package")).nth(1);
                let package = package.unwrap_or_else(|| panic!("cargo run without a package: {words:?}"));
                assert!(repository().join("crates").join(package).is_dir(), "no package {package}");
                let program = if package == "drills" { "drill" } else { package };
                let own: Vec<String> = rest.iter().skip_while(|word| *word != "--").skip(1).cloned().collect();
                let subcommand = own.first().map(String::as_str).filter(|word| !word.starts_with('-'));
                check_flags(program, subcommand.as_slice(), &own);
            }
            other => assert!(CARGO.contains(&other), "no such command: cargo {}", words.join(" ")),
        }
    }
}

/// What follows `cargo`, after variables that are set for it.
fn after_cargo(words: &[String]) -> Option<&[String]> {
    let program = words.iter().position(|word| !word.contains('='))?;
    (words[program] == "cargo").then(|| &words[program + 1..])
}

fn check_flags(program: &str, subcommand: &[&str], words: &[String]) {
    let used = words.iter().filter(|word| word.starts_with("--"));
    let used: BTreeSet<String> = used.map(|word| word.split('=').next().unwrap_or(word).to_owned()).collect();
    let known = flags_in_help(program, subcommand);
    assert!(!known.is_empty(), "{program} {subcommand:?} has no help");
    let unknown: Vec<_> = used.difference(&known).collect();
    assert!(unknown.is_empty(), "{program} {subcommand:?} does not know {unknown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_curl_command_in_the_readme_gets_a_good_answer() {
    let commands = shell::commands(&readme());
    let curls: Vec<Curl> = commands.iter().filter(|words| words[0] == "curl").map(|words| Curl::read(words)).collect();
    assert!(!curls.is_empty(), "README.md shows no curl command");
    let trio = start(Plan::default()).await;
    let http = Http::new();
    let mut id = None;
    for curl in curls {
        let answer = curl.send(&trio, &http, id.as_deref()).await;
        assert!(answer.status < 400, "{curl:?} answered {}: {}", answer.status, answer.body);
        if let Ok(accepted) = answer.json::<Accepted>() {
            id.get_or_insert(accepted.id.to_string());
        }
    }
}

/// A request that curl would make.
#[derive(Debug, Default)]
struct Curl {
    method: Option<String>,
    headers: Vec<(String, String)>,
    body: Option<String>,
    url: String,
}

impl Curl {
    fn read(words: &[String]) -> Self {
        let mut curl = Curl::default();
        let mut words = words[1..].iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().unwrap_or_else(|| panic!("{word} needs a value")).clone();
            match word.as_str() {
                "-i" | "-s" | "-sS" | "-f" | "-N" => {}
                "-X" => curl.method = Some(value()),
                "-H" => {
                    let header = value();
                    let (name, value) = header.split_once(": ").unwrap_or_else(|| panic!("no header: {header}"));
                    curl.headers.push((name.to_owned(), value.to_owned()));
                }
                "-d" | "--data" | "--data-binary" => curl.body = Some(value()),
                flag if flag.starts_with('-') => panic!("this test does not know curl's {flag}: teach it"),
                url => curl.url = url.to_owned(),
            }
        }
        curl
    }

    async fn send(&self, trio: &Trio, http: &Http, id: Option<&str>) -> Answer {
        let mut url = self.url.replace("http://127.0.0.1:8080", trio.gateway().url());
        url = url.replace("http://127.0.0.1:8082", trio.api2().url());
        assert_ne!(url, self.url, "{url} is none of the usual addresses");
        for placeholder in PLACEHOLDERS {
            url = url.replace(placeholder, id.unwrap_or(placeholder));
        }
        let by_body = if self.body.is_some() { "POST" } else { "GET" };
        let method = Method::from_bytes(self.method.as_deref().unwrap_or(by_body).as_bytes()).unwrap();
        let mut request = http.request(method, url);
        if self.body.is_some() && !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            request = request.header("content-type", "application/x-www-form-urlencoded");
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if let Some(body) = &self.body {
            request = request.body(body.clone());
        }
        Answer::to(request).await.unwrap()
    }
}
