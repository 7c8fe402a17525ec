-- What was published and not announced yet: of each repository the newest, written with the outcome that tells of it.
CREATE TABLE announcements (
    repository  TEXT PRIMARY KEY NOT NULL,
    revision    INTEGER NOT NULL,
    manifest    BLOB NOT NULL,
    certificate BLOB NOT NULL,
    whitelist   BLOB NOT NULL
) WITHOUT ROWID;
