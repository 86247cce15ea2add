//! A table of the destinations file while it is read: hands out values by key, and tells which keys nobody asked for.
//!
//! Serde stops at the first mistake and forgets where it was; this notes each mistake at its place and reads on.

use toml::de::{DeTable, DeValue};

use super::mistakes::Findings;
use super::value::{Read, shown, unlike};

/// A longer key is no misspelling of ours, and is cut in mistakes. As long as the longest name of a destination.
const LONGEST_BARE: usize = 64;

/// Keys of a table and how its mistakes are named.
#[derive(Debug)]
pub(super) struct Section<'t> {
    table: &'t DeTable<'t>,
    /// `destinations.payments`; empty for the file itself.
    path: String,
    /// Where the table is named.
    offset: usize,
    known: Vec<&'static str>,
}

/// A value whose key is the operator's choice, such as a header's name.
#[derive(Debug)]
pub(super) struct Entry<'t> {
    pub(super) key: &'t str,
    pub(super) key_offset: usize,
    pub(super) path: String,
    pub(super) value: &'t DeValue<'t>,
    pub(super) value_offset: usize,
}

impl<'t> Section<'t> {
    pub(super) fn root(table: &'t DeTable<'t>) -> Self {
        Section { table, path: String::new(), offset: 0, known: Vec::new() }
    }

    /// A section of the value at `path`; `None`, noted as a mistake, if it is not a table.
    pub(super) fn of(value: &'t DeValue<'t>, path: String, offset: usize, findings: &mut Findings) -> Option<Self> {
        let table = value.as_table();
        if table.is_none() {
            findings.wrong(offset, &path, unlike("a table", value));
        }
        Some(Section { table: table?, path, offset, known: Vec::new() })
    }

    /// The section under `key`, if there is one.
    pub(super) fn section(&mut self, key: &'static str, findings: &mut Findings) -> Option<Section<'t>> {
        let entry = self.entry(key)?;
        Section::of(entry.value, entry.path, entry.key_offset, findings)
    }

    /// What `read` makes of the value under `key`. `None` if there is none, or a wrong one, which is noted.
    pub(super) fn get<T>(
        &mut self,
        key: &'static str,
        findings: &mut Findings,
        read: impl FnOnce(&'t DeValue<'t>) -> Read<T>,
    ) -> Option<T> {
        let entry = self.entry(key)?;
        entry.read(findings, read)
    }

    /// Like [`get`](Self::get), for a setting that has a default: it stays where nothing else is given.
    pub(super) fn set<T>(
        &mut self,
        key: &'static str,
        field: &mut T,
        findings: &mut Findings,
        read: impl FnOnce(&'t DeValue<'t>) -> Read<T>,
    ) {
        if let Some(value) = self.get(key, findings, read) {
            *field = value;
        }
    }

    /// Like [`get`](Self::get), for a setting that must be there.
    pub(super) fn require<T>(
        &mut self,
        key: &'static str,
        findings: &mut Findings,
        read: impl FnOnce(&'t DeValue<'t>) -> Read<T>,
    ) -> Option<T> {
        let Some(entry) = self.entry(key) else {
            findings.absent(self.offset, &join(&self.path, key), "missing");
            return None;
        };
        entry.read(findings, read)
    }

    /// The items of the array of tables under `key`.
    pub(super) fn sections(&mut self, key: &'static str, findings: &mut Findings) -> Vec<Section<'t>> {
        let Some(entry) = self.entry(key) else { return Vec::new() };
        let Some(items) =
            entry.read(findings, |value| value.as_array().ok_or_else(|| unlike("an array of tables", value)))
        else {
            return Vec::new();
        };
        let numbered = items.iter().enumerate();
        let sections = numbered.map(|(index, item)| {
            Section::of(item.get_ref(), format!("{}[{index}]", entry.path), item.span().start, findings)
        });
        sections.collect::<Vec<_>>().into_iter().flatten().collect()
    }

    /// All values, in whatever order; every key is taken as known.
    pub(super) fn entries(&self) -> impl Iterator<Item = Entry<'t>> {
        let path = self.path.clone();
        self.table.iter().map(move |(key, value)| Entry {
            key: key.get_ref(),
            key_offset: key.span().start,
            path: join(&path, key.get_ref()),
            value: value.get_ref(),
            value_offset: value.span().start,
        })
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Notes a mistake of the table as a whole.
    pub(super) fn wrong(&self, findings: &mut Findings, detail: &str) {
        findings.wrong(self.offset, &self.path, detail);
    }

    /// Notes that the table as a whole lacks something.
    pub(super) fn absent(&self, findings: &mut Findings, detail: &str) {
        findings.absent(self.offset, &self.path, detail);
    }

    /// Notes a mistake at `key`, if it is there.
    pub(super) fn wrong_at(&mut self, key: &'static str, findings: &mut Findings, detail: &str) {
        if let Some(entry) = self.entry(key) {
            findings.wrong(entry.key_offset, &entry.path, detail);
        }
    }

    /// Notes every key that was never asked for.
    pub(super) fn finish(self, findings: &mut Findings) {
        for entry in self.entries().filter(|entry| !self.known.contains(&entry.key)) {
            let hint = match closest(entry.key, &self.known) {
                Some(meant) => format!("did you mean {meant}?"),
                None => format!("known here: {}", self.known.join(", ")),
            };
            findings.misplaced(entry.key_offset, &entry.path, format!("unknown key; {hint}"));
        }
    }

    fn entry(&mut self, key: &'static str) -> Option<Entry<'t>> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        let (found, value) = self.table.get_key_value(key)?;
        let path = join(&self.path, key);
        Some(Entry {
            key,
            key_offset: found.span().start,
            path,
            value: value.get_ref(),
            value_offset: value.span().start,
        })
    }
}

impl<'t> Entry<'t> {
    pub(super) fn read<T>(&self, findings: &mut Findings, read: impl FnOnce(&'t DeValue<'t>) -> Read<T>) -> Option<T> {
        match read(self.value) {
            Ok(value) => Some(value),
            Err(detail) => {
                findings.wrong(self.value_offset, &self.path, detail);
                None
            }
        }
    }

    /// What `read` makes of the key itself.
    pub(super) fn read_key<T>(&self, findings: &mut Findings, read: impl FnOnce(&'t str) -> Read<T>) -> Option<T> {
        let key = read(self.key);
        if let Err(detail) = &key {
            findings.wrong(self.key_offset, &self.path, detail);
        }
        key.ok()
    }
}

/// `path.key`, the key quoted where TOML would need it quoted, and cut where it is absurdly long.
fn join(path: &str, key: &str) -> String {
    let length_fits = (1..=LONGEST_BARE).contains(&key.len());
    let bare = length_fits && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    let key = if bare { key.to_owned() } else { shown(key) };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// The known key that was probably meant: at most a third of its letters, and at least one, may be wrong.
fn closest(wrong: &str, known: &[&'static str]) -> Option<&'static str> {
    if wrong.len() > LONGEST_BARE {
        return None;
    }
    let wrong = wrong.to_ascii_lowercase().replace('-', "_");
    let far = known.iter().map(|key| (strsim::osa_distance(&wrong, key), *key));
    let (distance, key) = far.min()?;
    (distance <= (key.len() / 3).max(1)).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_suggested_only_where_it_is_close() {
        let known = ["url", "max_attempts", "retry", "rules"];
        for (wrong, meant) in [
            ("ulr", "url"),
            ("URL", "url"),
            ("max-attempts", "max_attempts"),
            ("maxAttempts", "max_attempts"),
            ("rule", "rules"),
        ] {
            assert_eq!(closest(wrong, &known), Some(meant), "{wrong}");
        }
        for wrong in ["timeout", "", "x"] {
            assert_eq!(closest(wrong, &known), None, "{wrong}");
        }
    }

    #[test]
    fn a_key_is_named_as_it_must_be_written() {
        assert_eq!(join("destinations", "a-b_1"), "destinations.a-b_1");
        assert_eq!(join("destinations", "team.api"), r#"destinations."team.api""#);
        assert_eq!(join("", "a\nb"), r#""a\nb""#);
    }
}
