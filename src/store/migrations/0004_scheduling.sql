-- The place in the order in which jobs go that are ready, and what decides which of them share a batch.
ALTER TABLE jobs ADD COLUMN rank INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN alone INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN deadline INTEGER;
UPDATE jobs SET rank = seq - 100 * priority WHERE state NOT IN ('succeeded', 'failed', 'cancelled', 'skipped');

DROP INDEX jobs_ready;
CREATE INDEX jobs_ready ON jobs (repository, rank, seq) WHERE state = 'queued';
CREATE INDEX jobs_deadline ON jobs (deadline)
    WHERE deadline IS NOT NULL AND state IN ('waiting', 'awaiting_approval', 'queued', 'backoff', 'offered');
