-- Schema 5: a new job's id ends in its number, so that its row is found without an index: one page less to write for each job.

-- 1: the id ends in `seq`. Jobs from before this step, and those whose id was given, are found by the index.
ALTER TABLE job ADD COLUMN id_ends_in_seq INTEGER NOT NULL DEFAULT 0;
DROP INDEX job_id;
CREATE UNIQUE INDEX job_other_id ON job (id) WHERE id_ends_in_seq = 0;
