CREATE TABLE chunks (
    job     BLOB NOT NULL,
    attempt INTEGER NOT NULL,
    start   INTEGER NOT NULL,
    length  INTEGER NOT NULL,
    data    BLOB NOT NULL,
    PRIMARY KEY (job, attempt, start)
) WITHOUT ROWID;
