-- What may be pruned, oldest first.
CREATE INDEX jobs_ended ON jobs (updated_at) WHERE state IN ('succeeded', 'failed', 'cancelled', 'skipped');
-- What keeps the rest of its submission.
CREATE INDEX jobs_open ON jobs (submission) WHERE state NOT IN ('succeeded', 'failed', 'cancelled', 'skipped');
-- Deleting a job must find them.
CREATE INDEX labels_job ON labels (job);

CREATE TABLE blob_refs (
    digest TEXT NOT NULL,
    job    INTEGER NOT NULL REFERENCES jobs (seq),
    PRIMARY KEY (digest, job)
) WITHOUT ROWID;
CREATE INDEX blob_refs_job ON blob_refs (job);
INSERT INTO blob_refs
    SELECT json_extract(spec, '$.work.payload.source.digest'), seq FROM jobs
    WHERE json_valid(spec) AND json_extract(spec, '$.work.payload.source.from') = 'blob';

-- The last event that is no longer there; and up to which job's end (microseconds, then its number) logs are gone.
INSERT INTO meta VALUES ('events_pruned_to', 0), ('logs_pruned_to', 0), ('logs_pruned_seq', 0);
