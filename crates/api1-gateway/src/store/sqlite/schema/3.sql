-- Schema 3: callers are told of the end of their jobs.

-- The name of the destination that is told.
ALTER TABLE job ADD COLUMN callback TEXT;
