-- Schema 2: what is kept for operators. Words and units as in 1.sql.

-- The mass redrive that made the job's present generation.
ALTER TABLE job ADD COLUMN redrive INTEGER;

CREATE TABLE mass_redrive (
    number             INTEGER PRIMARY KEY,
    -- JSON.
    plan               TEXT    NOT NULL,
    asked_by           TEXT    NOT NULL,
    asked_at           INTEGER NOT NULL,
    updated_at         INTEGER NOT NULL,
    phase              INTEGER NOT NULL,
    stop_reason        TEXT,
    stopped_by_rule    INTEGER,
    counted_to         INTEGER NOT NULL,
    matched            INTEGER NOT NULL,
    redriven_to        INTEGER NOT NULL,
    redriven           INTEGER NOT NULL,
    skipped            INTEGER NOT NULL,
    forgiven_succeeded INTEGER NOT NULL,
    forgiven_failed    INTEGER NOT NULL,
    forgiven_cancelled INTEGER NOT NULL,
    -- Counted where its jobs change.
    succeeded          INTEGER NOT NULL DEFAULT 0,
    failed             INTEGER NOT NULL DEFAULT 0,
    cancelled          INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Dead jobs that an operator has settled otherwise.
CREATE TABLE resolution (
    seq         INTEGER PRIMARY KEY,
    resolved_by TEXT    NOT NULL,
    reason      TEXT    NOT NULL,
    resolved_at INTEGER NOT NULL
) STRICT;

CREATE TABLE audit (
    number    INTEGER PRIMARY KEY,
    acted_at  INTEGER NOT NULL,
    principal TEXT    NOT NULL,
    action    INTEGER NOT NULL,
    target    TEXT    NOT NULL,
    detail    TEXT    NOT NULL
) STRICT;
