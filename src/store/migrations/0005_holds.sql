-- What keeps a repository's jobs from being offered. Of one kind it has one at most.
CREATE TABLE holds (
    repository TEXT NOT NULL,
    kind       TEXT NOT NULL,
    id         BLOB NOT NULL,
    by         TEXT NOT NULL,
    reason     TEXT NOT NULL,
    since      INTEGER NOT NULL,
    until      INTEGER,
    lease_s    INTEGER NOT NULL,
    PRIMARY KEY (repository, kind)
) WITHOUT ROWID;
