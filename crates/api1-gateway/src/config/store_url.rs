//! Where jobs are kept: the `--store` setting.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// A store, as `--store` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// `memory:`; everything is gone with the process.
    Memory,
    /// `sqlite:PATH`, the database file.
    Sqlite(PathBuf),
}

/// Why a text names no store. It does not repeat the text, since a database URL may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAStore {
    #[error("not a store: write sqlite:PATH or memory:")]
    Unknown,
    #[error("the path is missing: write sqlite:PATH")]
    NoPath,
    #[error("write sqlite:PATH, without slashes before the path")]
    Slashes,
    #[error("for a store in memory write memory:")]
    SqliteInMemory,
    #[error("PostgreSQL is not supported by this version: write sqlite:PATH or memory:")]
    Postgres,
}

impl FromStr for StoreUrl {
    type Err = NotAStore;

    fn from_str(text: &str) -> Result<Self, NotAStore> {
        match text.split_once(':') {
            Some(("memory", "")) => Ok(StoreUrl::Memory),
            Some(("sqlite", "")) => Err(NotAStore::NoPath),
            Some(("sqlite", path)) if path.starts_with("//") => Err(NotAStore::Slashes),
            Some(("sqlite", path)) if path.starts_with(":memory:") => Err(NotAStore::SqliteInMemory),
            Some(("sqlite", path)) => Ok(StoreUrl::Sqlite(path.into())),
            Some(("postgres" | "postgresql", _)) => Err(NotAStore::Postgres),
            Some(_) | None => Err(NotAStore::Unknown),
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreUrl::Memory => f.write_str("memory:"),
            StoreUrl::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_memory_or_a_database_file() {
        assert_eq!("memory:".parse(), Ok(StoreUrl::Memory));
        assert_eq!("sqlite:data/jobs.db".parse(), Ok(StoreUrl::Sqlite("data/jobs.db".into())));
        assert_eq!("sqlite:/var/lib/a:b.db".parse::<StoreUrl>().unwrap().to_string(), "sqlite:/var/lib/a:b.db");
    }

    #[test]
    fn what_is_no_store_is_refused_without_repeating_it() {
        for (text, reason) in [
            ("", NotAStore::Unknown),
            ("jobs.db", NotAStore::Unknown),
            ("memory:x", NotAStore::Unknown),
            ("postgress://u:secret@h/db", NotAStore::Unknown),
            ("postgres://u:secret@h/db", NotAStore::Postgres),
            ("sqlite:", NotAStore::NoPath),
            ("sqlite://jobs.db", NotAStore::Slashes),
            ("sqlite::memory:", NotAStore::SqliteInMemory),
        ] {
            assert_eq!(text.parse::<StoreUrl>(), Err(reason), "{text}");
            assert!(!reason.to_string().contains("secret"));
        }
    }
}
