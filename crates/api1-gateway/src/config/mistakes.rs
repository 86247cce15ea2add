//! Mistakes in what an operator wrote about destinations, each with its place, so that all can be corrected in one go.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

/// Most mistakes told of one file: beyond that it is not a destinations file, and reading on helps nobody.
pub(super) const MAX_MISTAKES: usize = 100;

/// A mistake: where it is, what it is about, and what to write instead. Secrets are never repeated in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    pub place: Place,
    /// The setting within its place: `destinations.payments.retry.base` in a file, a destination's name in a flag. May be empty.
    pub key: String,
    pub detail: String,
}

/// Where a mistake is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// On the command line or in the environment: `--destination`, `API1_DESTINATIONS`.
    Setting { flag: &'static str, var: &'static str },
    /// In a file as a whole.
    File(PathBuf),
    /// In a line of a file. Lines and columns (in characters) count from 1.
    Line { file: PathBuf, line: usize, column: usize },
}

impl Mistake {
    pub(super) fn new(place: Place, key: impl Into<String>, detail: impl Into<String>) -> Self {
        Mistake { place, key: key.into(), detail: detail.into() }
    }

    /// What it is about and what is wrong, without its place: `destinations.payments.url: missing`.
    pub(super) fn message(&self) -> String {
        if self.key.is_empty() { self.detail.clone() } else { format!("{}: {}", self.key, self.detail) }
    }
}

impl fmt::Display for Mistake {
    /// `destinations.toml:12:7: destinations.payments.url: …`, on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Setting { flag, var } => write!(f, "{flag} / {var}: ")?,
            Place::File(file) => write!(f, "{}: ", file.display())?,
            Place::Line { file, line, column } => write!(f, "{}:{line}:{column}: ", file.display())?,
        }
        f.write_str(&self.message())
    }
}

/// Every mistake found, in the order of their places. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bad destinations:")?;
        self.0.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))
    }
}

/// What was found wrong in one file while reading it, by byte offset; see [`Findings::into_mistakes`].
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Finding>);

#[derive(Debug)]
struct Finding {
    offset: usize,
    key: String,
    detail: String,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The file is not TOML here: what stands behind may have been misread.
    Syntax,
    /// A value is wrong.
    Wrong,
    /// A key is in a table where it does not belong; behind a broken table header it may only seem to be in that table.
    Misplaced,
    /// Something is not there, which cannot be said of a file that was not fully understood.
    Absent,
}

impl Findings {
    pub(super) fn wrong(&mut self, offset: usize, key: &str, detail: impl Into<String>) {
        self.add(Kind::Wrong, offset, key, detail.into());
    }

    pub(super) fn misplaced(&mut self, offset: usize, key: &str, detail: impl Into<String>) {
        self.add(Kind::Misplaced, offset, key, detail.into());
    }

    pub(super) fn absent(&mut self, offset: usize, key: &str, detail: impl Into<String>) {
        self.add(Kind::Absent, offset, key, detail.into());
    }

    pub(super) fn syntax(&mut self, offset: usize, detail: &str) {
        self.add(Kind::Syntax, offset, "", format!("not TOML: {detail}"));
    }

    /// Whether everything in the file could be seen, right or wrong.
    pub(super) fn saw_all(&self) -> bool {
        self.0.iter().all(|finding| finding.kind != Kind::Syntax)
    }

    /// The mistakes by line and column of `text`, the content of `file`. Where the file is not TOML, what seems wrong in
    /// the same line, misplaced behind it, or absent is left out: it may only be the shadow of that.
    pub(super) fn into_mistakes(mut self, file: &Path, text: &str) -> Vec<Mistake> {
        let lines = Lines::of(text);
        let syntax = self.0.iter().filter(|finding| finding.kind == Kind::Syntax);
        let broken: BTreeSet<usize> = syntax.map(|finding| lines.line(finding.offset)).collect();
        if let Some(first) = broken.first() {
            self.0.retain(|finding| match finding.kind {
                Kind::Syntax => true,
                Kind::Wrong => !broken.contains(&lines.line(finding.offset)),
                Kind::Misplaced => lines.line(finding.offset) < *first,
                Kind::Absent => false,
            });
        }
        self.0.sort_by_key(|finding| finding.offset);
        let hidden = self.0.len().saturating_sub(MAX_MISTAKES);
        self.0.truncate(MAX_MISTAKES);
        let placed = self.0.into_iter().map(|finding| {
            let (line, column) = lines.position(finding.offset);
            Mistake::new(Place::Line { file: file.to_owned(), line, column }, finding.key, finding.detail)
        });
        let mut mistakes: Vec<Mistake> = placed.collect();
        if hidden > 0 {
            mistakes.push(Mistake::new(Place::File(file.to_owned()), "", format!("and {hidden} more mistakes")));
        }
        mistakes
    }

    fn add(&mut self, kind: Kind, offset: usize, key: &str, detail: String) {
        self.0.push(Finding { offset, key: key.to_owned(), detail, kind });
    }
}

/// Finds line and column of a byte of a text.
pub(super) struct Lines<'t> {
    text: &'t str,
    /// Where each line but the first begins.
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        Lines { text, starts: text.match_indices('\n').map(|(at, _)| at + 1).collect() }
    }

    /// Line and column, both from 1; the column in characters.
    pub(super) fn position(&self, offset: usize) -> (usize, usize) {
        let line = self.line(offset);
        let start = if line == 1 { 0 } else { self.starts[line - 2] };
        let before = self.text[start..].char_indices().take_while(|(at, _)| start + at < offset);
        (line, before.count() + 1)
    }

    fn line(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_counts_lines_and_characters_from_one() {
        let text = "a\nbä c";
        for (offset, place) in
            [(0, (1, 1)), (1, (1, 2)), (2, (2, 1)), (3, (2, 2)), (5, (2, 3)), (6, (2, 4)), (99, (2, 5))]
        {
            assert_eq!(Lines::of(text).position(offset), place, "{offset}");
        }
        assert_eq!(Lines::of("").position(0), (1, 1));
    }

    #[test]
    fn mistakes_come_in_the_order_of_the_file_and_the_flood_is_cut() {
        let mut findings = Findings::default();
        for offset in (0..250).rev() {
            findings.wrong(offset, "key", "wrong");
        }
        let mistakes = findings.into_mistakes(Path::new("d.toml"), &"\n".repeat(250));
        assert_eq!(mistakes.len(), MAX_MISTAKES + 1);
        assert_eq!(mistakes[1].to_string(), "d.toml:2:1: key: wrong");
        assert_eq!(mistakes[MAX_MISTAKES].to_string(), "d.toml: and 150 more mistakes");
    }

    #[test]
    fn where_the_file_is_not_toml_its_shadows_are_left_out() {
        let mut findings = Findings::default();
        findings.misplaced(0, "unknown", "before");
        findings.syntax(4, "oh");
        findings.wrong(5, "shadow", "same line");
        findings.wrong(9, "own", "another line");
        findings.misplaced(9, "unknown", "behind");
        findings.absent(0, "url", "missing");
        let mistakes = findings.into_mistakes(Path::new("f"), "a\nbbbbb\nccc");
        let shown: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["f:1:1: unknown: before", "f:2:3: not TOML: oh", "f:3:2: own: another line"]);
    }
}
