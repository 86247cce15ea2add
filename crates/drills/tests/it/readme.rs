//! The README keeps its word: its commands run, its flags and variables exist, its map is complete.

mod commands;
mod shell;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::support::output_of;

/// Every program has these; the README need not repeat them for each.
const COMMON_FLAGS: [&str; 3] = ["--help", "--version", "--print-config"];
/// Explained once for all programs.
const COMMON_VARIABLES: [&str; 2] = ["LOG_FORMAT", "RUST_LOG"];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn readme() -> String {
    std::fs::read_to_string(repository().join("README.md")).unwrap()
}

/// The lines under the heading `heading`, up to the next heading.
fn section<'a>(readme: &'a str, heading: &str) -> Vec<&'a str> {
    let mut lines = readme.lines().skip_while(|line| *line != heading);
    assert!(lines.next().is_some(), "README.md has no heading {heading:?}");
    let mut in_code = false;
    let body = lines.take_while(|line| {
        in_code ^= line.starts_with("```");
        in_code || !line.starts_with('#')
    });
    body.collect()
}

/// The words in back-ticks in `text` that begin with `start`.
fn quoted<'a>(text: &'a str, start: impl Fn(&str) -> bool + 'a) -> impl Iterator<Item = String> + 'a {
    let words = text.split('`').skip(1).step_by(2).flat_map(|quoted| quoted.split_whitespace().next());
    words.filter(move |word| start(word)).map(str::to_owned)
}

/// The flags that a program's help shows; `arguments` chooses the subcommand.
fn flags_in_help(program: &str, arguments: &[&str]) -> BTreeSet<String> {
    let output = output_of(program, &[arguments, &["--help"]].concat());
    let help = String::from_utf8(output.stdout).unwrap();
    let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    let words = lines.flat_map(|line| line.split_whitespace().take(2));
    words.filter(|word| word.starts_with("--")).map(|word| word.trim_end_matches(',').to_owned()).collect()
}

/// The variables that a program reads, by its own word.
fn variables_in_config(program: &str) -> BTreeSet<String> {
    let output = output_of(program, &["--print-config"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let names = text.lines().filter_map(|line| Some(line.split_once(" =")?.0.to_owned()));
    names.filter(|name| name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')).collect()
}

/// Both sets, each without what it shares with the other: empty where they agree.
fn difference(documented: &BTreeSet<String>, real: &BTreeSet<String>) -> (Vec<String>, Vec<String>) {
    (documented.difference(real).cloned().collect(), real.difference(documented).cloned().collect())
}

#[test]
fn the_settings_tables_name_every_flag_and_variable_and_no_other() {
    let readme = readme();
    for program in ["api1-gateway", "retry-worker", "api2-flaky"] {
        let section = section(&readme, &format!("### {program}"));
        let rows: Vec<Vec<&str>> = section
            .iter()
            .filter(|line| line.starts_with('|'))
            .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
            .collect();
        assert!(rows.len() > 2, "{program} has no table of settings");
        let column = |number: usize| rows.iter().filter_map(move |row| row.get(number).copied());

        let documented: BTreeSet<String> =
            column(0).flat_map(|cell| quoted(cell, |word| word.starts_with("--"))).collect();
        let mut real = flags_in_help(program, &[]);
        real.retain(|flag| !COMMON_FLAGS.contains(&flag.as_str()));
        assert_eq!(
            difference(&documented, &real),
            (vec![], vec![]),
            "flags of {program}: (not real, not in the README)"
        );

        let is_variable = |word: &str| word.starts_with(|c: char| c.is_ascii_uppercase());
        let documented: BTreeSet<String> = column(1).flat_map(|cell| quoted(cell, is_variable)).collect();
        let mut real = variables_in_config(program);
        real.retain(|variable| !COMMON_VARIABLES.contains(&variable.as_str()));
        assert_eq!(
            difference(&documented, &real),
            (vec![], vec![]),
            "variables of {program}: (not real, not in the README)"
        );
    }
}

#[test]
fn the_map_names_every_crate_and_module_and_nothing_that_is_not_there() {
    let (readme, repository) = (readme(), repository());
    let section = section(&readme, "## Map");
    let words = section.iter().filter_map(|line| line.split_whitespace().next());
    let listed: BTreeSet<&str> =
        words.filter(|word| word.starts_with("crates/")).map(|word| word.trim_end_matches('/')).collect();
    let missing: Vec<_> = listed.iter().filter(|path| !repository.join(path).exists()).collect();
    assert!(missing.is_empty(), "on the map, but not there: {missing:?}");

    let mut unlisted = Vec::new();
    for package in folder(&repository.join("crates")).into_iter().filter(|path| path.join("Cargo.toml").is_file()) {
        let name = format!("crates/{}", package.file_name().unwrap().to_str().unwrap());
        let modules =
            folder(&package.join("src")).into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs"));
        let modules = modules.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()));
        for module in modules.filter(|module| module != "lib" && module != "main") {
            let path = format!("{name}/src/{module}");
            if !listed.contains(path.as_str()) && !listed.contains(format!("{path}.rs").as_str()) {
                unlisted.push(format!("{path}.rs"));
            }
        }
        if !listed.contains(name.as_str()) {
            unlisted.push(name);
        }
    }
    assert!(unlisted.is_empty(), "not on the map: {unlisted:#?}");
}

/// What is in a folder, by name.
fn folder(path: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries
}
