-- The paths that an attempt changes, as text.
CREATE TABLE changes (
    job     BLOB NOT NULL,
    attempt INTEGER NOT NULL,
    start   INTEGER NOT NULL,
    length  INTEGER NOT NULL,
    data    BLOB NOT NULL,
    PRIMARY KEY (job, attempt, start)
) WITHOUT ROWID;
