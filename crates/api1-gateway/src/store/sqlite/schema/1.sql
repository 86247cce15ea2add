-- Schema 1. Numbers that stand for words are in codes.rs; times are milliseconds since 1970 UTC, durations nanoseconds.
-- A step that has been released is never edited: the next change is 2.sql.

-- Names come again in every job, so they are numbered. Never deleted.
CREATE TABLE destination (
    id   INTEGER PRIMARY KEY,
    name TEXT    NOT NULL UNIQUE
) STRICT;

-- What changes about a job, and the little of the rest that every change needs. Rows stay narrow: each of a job's three
-- writes under load costs its row's share of a page.
CREATE TABLE job (
    seq               INTEGER PRIMARY KEY,
    id                BLOB    NOT NULL,
    destination       INTEGER NOT NULL,
    priority          INTEGER NOT NULL,
    accepted_at       INTEGER NOT NULL,
    ordering_key      TEXT,
    max_attempts      INTEGER,
    expires_after     INTEGER,
    traceparent       TEXT,
    redriven_from     BLOB,
    checksum          INTEGER NOT NULL,

    state             INTEGER NOT NULL,
    -- 1: no job of its ordering key is before it. Means something only while it waits.
    head              INTEGER NOT NULL,
    -- Its part in its ordering key: 0 waiting, 1 leased, 2 dead and blocking; null without a key, and once it is done with.
    place             INTEGER,
    -- While it waits; while it is leased, what a release restores.
    run_at            INTEGER,
    cause             INTEGER,
    fail_epoch        INTEGER,
    -- When it is to be ended although it waits.
    deadline          INTEGER,
    finished_at       INTEGER,
    dead_reason       INTEGER,
    -- While it is leased.
    epoch             INTEGER,
    worker            BLOB,
    claimed_at        INTEGER,
    destination_epoch INTEGER,
    begun             INTEGER,
    ok_begun          INTEGER,
    cancel_requested  INTEGER,

    updated_at        INTEGER NOT NULL,
    expires_at        INTEGER,
    attempts          INTEGER NOT NULL,
    charged           INTEGER NOT NULL,
    failures          INTEGER NOT NULL,
    failures_epoch    INTEGER NOT NULL,
    lost              INTEGER NOT NULL,
    overloads         INTEGER NOT NULL,
    last_settled      INTEGER NOT NULL,
    last_down         INTEGER NOT NULL,
    first_suspect     INTEGER NOT NULL,
    generation        INTEGER NOT NULL,
    generation_floor  INTEGER NOT NULL,
    last_epoch        INTEGER NOT NULL,
    settled_epoch     INTEGER NOT NULL,
    resend_until      INTEGER,
    key_generation    INTEGER NOT NULL,
    last_error        TEXT,

    CHECK (state BETWEEN 0 AND 4),
    CHECK ((state < 2) = (run_at IS NOT NULL)),
    CHECK ((state = 1) = (epoch IS NOT NULL)),
    CHECK ((state > 1) = (finished_at IS NOT NULL)),
    CHECK ((state = 3) = (dead_reason IS NOT NULL))
) STRICT;

-- Every index below is partial: a job is only in those that its state needs, and leaves them when it moves on.
-- SQLite ends each entry with the row's key, so "(…, run_at)" is in the order of (run_at, seq).
CREATE UNIQUE INDEX job_id ON job (id);
-- Claims: the next due job is the first entry of its destination and priority. `head` comes before, so that jobs behind
-- another of their ordering key are never walked over, and can still be asked for the oldest.
CREATE INDEX job_waiting ON job (destination, head, priority, run_at) WHERE state = 0;
-- Claims after a recovery: the jobs that an outage made wait, by the destination's epoch at that time.
CREATE INDEX job_outage ON job (destination, priority, fail_epoch) WHERE state = 0 AND head = 1 AND cause = 2;
-- The start: what is in workers' hands. A list of leased jobs.
CREATE INDEX job_leased ON job (seq) WHERE state = 1;
-- Who is next of an ordering key.
CREATE INDEX job_place ON job (destination, ordering_key, place) WHERE place IS NOT NULL;
-- Sweeps.
CREATE INDEX job_deadline ON job (deadline) WHERE state = 0 AND deadline IS NOT NULL;
-- Purges; a dead job that blocks its ordering key is kept.
CREATE INDEX job_done ON job (finished_at) WHERE state IN (2, 4);
CREATE INDEX job_dead ON job (finished_at) WHERE state = 3 AND place IS NULL;
-- A list of dead jobs, rare among many.
CREATE INDEX job_dead_seq ON job (seq) WHERE state = 3;

-- What is to be sent. Written once, read by each claim.
CREATE TABLE request (
    seq          INTEGER PRIMARY KEY,
    method       TEXT,
    path         TEXT,
    content_type TEXT,
    -- JSON: [["name", "value"], …]; null for none.
    headers      TEXT,
    body         BLOB NOT NULL
) STRICT;

-- The attempt log, only ever added to. Numbers start again with each generation, and rise within one.
CREATE TABLE attempt (
    seq         INTEGER NOT NULL,
    generation  INTEGER NOT NULL,
    number      INTEGER NOT NULL,
    epoch       INTEGER NOT NULL,
    worker      BLOB    NOT NULL,
    started_at  INTEGER NOT NULL,
    duration    INTEGER NOT NULL,
    outcome     INTEGER NOT NULL,
    charged     INTEGER NOT NULL,
    status      INTEGER,
    error       TEXT,
    excerpt     TEXT,
    next_run_at INTEGER,
    retry_delay INTEGER,
    PRIMARY KEY (seq, generation, number)
) STRICT, WITHOUT ROWID;

-- The answer of the last attempt that had one.
CREATE TABLE response (
    seq          INTEGER PRIMARY KEY,
    status       INTEGER,
    content_type TEXT,
    truncated    INTEGER NOT NULL,
    body         BLOB    NOT NULL
) STRICT;

-- `seq` is the job's, so that a purge finds the key of a job without an index for it.
CREATE TABLE idempotency_key (
    seq         INTEGER PRIMARY KEY,
    scope       TEXT    NOT NULL,
    key         TEXT    NOT NULL,
    fingerprint BLOB    NOT NULL,
    job_id      BLOB    NOT NULL,
    replays     INTEGER NOT NULL DEFAULT 0,
    -- Once the job is purged: the state it had ended in, and when that was.
    ended       INTEGER,
    purged_at   INTEGER
) STRICT;
CREATE UNIQUE INDEX idempotency_key_name ON idempotency_key (scope, key);
CREATE INDEX idempotency_key_purged ON idempotency_key (purged_at) WHERE purged_at IS NOT NULL;

-- Kept counts; `destination` is 0 where a count is of all.
CREATE TABLE counter (
    kind        INTEGER NOT NULL,
    destination INTEGER NOT NULL,
    value       INTEGER NOT NULL,
    PRIMARY KEY (kind, destination)
) STRICT, WITHOUT ROWID;

CREATE TABLE destination_gate (
    destination   INTEGER PRIMARY KEY,
    epoch         INTEGER NOT NULL,
    open_since    INTEGER,
    open_reason   TEXT,
    misconfigured INTEGER NOT NULL,
    hold_until    INTEGER,
    -- Oks per second before the outage.
    goodput       REAL    NOT NULL,
    paused        INTEGER NOT NULL
) STRICT;

-- 'start': how many times a gateway has opened this file.
CREATE TABLE meta (
    name  TEXT    PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('start', 0);
