CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO meta VALUES ('epoch', 0);

CREATE TABLE jobs (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    id         BLOB NOT NULL UNIQUE,
    submission BLOB NOT NULL,
    name       TEXT NOT NULL,
    repository TEXT NOT NULL,
    lease_path TEXT NOT NULL,
    priority   INTEGER NOT NULL,
    submitter  TEXT NOT NULL,
    spec       TEXT NOT NULL,
    state      TEXT NOT NULL,
    progress   TEXT NOT NULL,
    due_at     INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
CREATE INDEX jobs_ready ON jobs (repository, priority DESC, seq) WHERE state = 'queued';
CREATE INDEX jobs_due ON jobs (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX jobs_state ON jobs (state, seq);
CREATE INDEX jobs_submission ON jobs (submission, seq);
CREATE INDEX jobs_repository ON jobs (repository, seq);
CREATE INDEX jobs_name ON jobs (name, seq);
CREATE INDEX jobs_submitter ON jobs (submitter, seq);

CREATE TABLE labels (
    key   TEXT NOT NULL,
    value TEXT NOT NULL,
    job   INTEGER NOT NULL REFERENCES jobs (seq),
    PRIMARY KEY (key, value, job)
) WITHOUT ROWID;

CREATE TABLE dependencies (
    job        INTEGER NOT NULL REFERENCES jobs (seq),
    depends_on INTEGER NOT NULL REFERENCES jobs (seq),
    condition  TEXT NOT NULL,
    PRIMARY KEY (job, depends_on)
) WITHOUT ROWID;
CREATE INDEX dependents ON dependencies (depends_on, job);

CREATE TABLE events (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,
    job        INTEGER NOT NULL REFERENCES jobs (seq),
    at         INTEGER NOT NULL,
    event      TEXT NOT NULL,
    state      TEXT NOT NULL
);
CREATE INDEX events_job ON events (job, number);

CREATE TABLE batches (
    id         BLOB PRIMARY KEY,
    fleet      TEXT NOT NULL,
    repository TEXT NOT NULL,
    lease_path TEXT NOT NULL,
    jobs       TEXT NOT NULL,
    generation INTEGER NOT NULL,
    state      TEXT NOT NULL,
    detail     TEXT NOT NULL,
    created_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX batches_live ON batches (repository, state) WHERE state <> 'settled';
CREATE INDEX batches_offers ON batches (fleet, state, id) WHERE state IN ('unsent', 'offered');
