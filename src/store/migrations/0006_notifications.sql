-- The last message of each repository. Numbers rise with every message, whatever its repository.
CREATE TABLE notifications (
    repository TEXT PRIMARY KEY,
    number     INTEGER NOT NULL UNIQUE,
    revision   INTEGER NOT NULL,
    origin     TEXT NOT NULL,
    at         INTEGER NOT NULL,
    message    TEXT NOT NULL
) WITHOUT ROWID;
