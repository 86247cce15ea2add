-- Schema 4: a short first answer is kept one time, in the attempt log.

-- In the first line of a job's log: the content type of its answer, '' where it had none, if `excerpt` is the whole of it. `response`
-- has a row only for another answer, and that one is then the last.
--
-- A new job's `job.worker` is zeros, as many as its first lease will take: see row.rs.
ALTER TABLE attempt ADD COLUMN whole_of TEXT;
