-- conveyor.db as Conveyor of database version 1 left it.
PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO meta VALUES('epoch',2);
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
INSERT INTO jobs VALUES(1,X'01a1ffbfaa1875188965e3dc228e91cd',X'01a1ffbfaa1d7717a0676b229f2816a6','greeting','test.example.org','/greetings',0,'root@vm','{"id":"01a1ffbf-aa18-7518-8965-e3dc228e91cd","name":"greeting","work":{"kind":"publish","repository":"test.example.org","lease_path":"/greetings","payload":{"type":"tarball","source":{"from":"blob","digest":"sha256:6a57f18695d909fa210f667b5be8283cfdf35739f7dfcee5e1544cda61d73a1b"}}},"dependencies":[],"priority":0,"attempts":4,"timeout_s":7200,"labels":{},"submitter":"root@vm"}','succeeded','{"state":{"state":"succeeded","revision":2,"root_hash":"b6ba119e6c05d7b7120530a8f8958df7989a08d0"},"attempt":1,"needs_approval":false,"failures":0,"interruptions":0,"pinned":null,"outputs":{"paths_changed":"2","publish_ms":"38","staged_bytes":"21","staged_files":"1","staging_ms":"8"}}',NULL,1795292113437817,1795292113499242);
INSERT INTO jobs VALUES(2,X'01a1ffbfaa7c70f68fda0136496ca78d',X'01a1ffbfaa8574439ef2b46f0abb27e8','broken','test.example.org','/broken',0,'root@vm','{"id":"01a1ffbf-aa7c-70f6-8fda-0136496ca78d","name":"broken","work":{"kind":"publish","repository":"test.example.org","lease_path":"/broken","payload":{"type":"script","source":{"from":"blob","digest":"sha256:c78a01d7c600e169cea977d9eee1cf1de0c345c68c41c944fd639fe1a8fcaf33"},"args":[]}},"dependencies":[],"priority":0,"attempts":1,"timeout_s":7200,"labels":{},"submitter":"root@vm"}','failed','{"state":{"state":"failed","failure":{"code":"script_failed","message":"the script exited with code 3"}},"attempt":1,"needs_approval":false,"failures":1,"interruptions":0,"pinned":null,"outputs":{}}',NULL,1795292113541576,1795292113575754);
INSERT INTO jobs VALUES(3,X'01a1ffbfb8a4752191b66d8660d87377',X'01a1ffbfb8a57067a6676c9527051212','to be done after the upgrade','test.example.org','/marks',0,'root@vm','{"id":"01a1ffbf-b8a4-7521-91b6-6d8660d87377","name":"to be done after the upgrade","work":{"kind":"publish","repository":"test.example.org","lease_path":"/marks","payload":{"type":"empty"}},"dependencies":[],"priority":0,"attempts":4,"timeout_s":7200,"labels":{},"submitter":"root@vm"}','offered','{"state":{"state":"offered","batch":"01a1ffbf-b8a6-75b3-aa01-81ef49371e86"},"attempt":0,"needs_approval":false,"failures":0,"interruptions":0,"pinned":null,"outputs":{}}',NULL,1795292117158229,1795292117158229);
INSERT INTO jobs VALUES(4,X'01a1ffbfb98f74aaadd4d7b3156236ee',X'01a1ffbfb98f74aaadd4d7b40535d3a8','and this after it','test.example.org','/marks',0,'root@vm','{"id":"01a1ffbf-b98f-74aa-add4-d7b3156236ee","name":"and this after it","work":{"kind":"publish","repository":"test.example.org","lease_path":"/marks","payload":{"type":"empty"}},"dependencies":[{"job_id":"01a1ffbf-b8a4-7521-91b6-6d8660d87377","condition":"success"}],"priority":0,"attempts":4,"timeout_s":7200,"labels":{},"submitter":"root@vm"}','waiting','{"state":{"state":"waiting"},"attempt":0,"needs_approval":false,"failures":0,"interruptions":0,"pinned":null,"outputs":{}}',NULL,1795292117393092,1795292117393092);
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
INSERT INTO dependencies VALUES(4,3,'"success"');
CREATE TABLE events (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,
    job        INTEGER NOT NULL REFERENCES jobs (seq),
    at         INTEGER NOT NULL,
    event      TEXT NOT NULL,
    state      TEXT NOT NULL
);
INSERT INTO events VALUES(1,1,1795292113437817,'{"event":"submitted","waiting":false,"needs_approval":false}','queued');
INSERT INTO events VALUES(2,1,1795292113437817,'{"event":"offered","batch":"01a1ffbf-aa1e-7158-972c-c4af7754b923"}','offered');
INSERT INTO events VALUES(3,1,1795292113442525,'{"event":"claimed","batch":"01a1ffbf-aa1e-7158-972c-c4af7754b923","node":"dev"}','running');
INSERT INTO events VALUES(4,1,1795292113453299,'{"event":"publish_permitted","base_revision":1}','running');
INSERT INTO events VALUES(5,1,1795292113499242,'{"event":"succeeded","revision":2,"root_hash":"b6ba119e6c05d7b7120530a8f8958df7989a08d0","outputs":{"paths_changed":"2","publish_ms":"38","staged_bytes":"21","staged_files":"1","staging_ms":"8"}}','succeeded');
INSERT INTO events VALUES(6,2,1795292113541576,'{"event":"submitted","waiting":false,"needs_approval":false}','queued');
INSERT INTO events VALUES(7,2,1795292113541576,'{"event":"offered","batch":"01a1ffbf-aa85-7027-acdb-c9a9d817a158"}','offered');
INSERT INTO events VALUES(8,2,1795292113543850,'{"event":"claimed","batch":"01a1ffbf-aa85-7027-acdb-c9a9d817a158","node":"dev"}','running');
INSERT INTO events VALUES(9,2,1795292113575754,'{"event":"attempt_failed","failure":{"code":"script_failed","message":"the script exited with code 3"},"retry_at":null}','failed');
INSERT INTO events VALUES(10,3,1795292117158229,'{"event":"submitted","waiting":false,"needs_approval":false}','queued');
INSERT INTO events VALUES(11,3,1795292117158229,'{"event":"offered","batch":"01a1ffbf-b8a6-75b3-aa01-81ef49371e86"}','offered');
INSERT INTO events VALUES(12,4,1795292117393092,'{"event":"submitted","waiting":true,"needs_approval":false}','waiting');
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
INSERT INTO batches VALUES(X'01a1ffbfaa1e7158972cc4af7754b923','default','test.example.org','/greetings','[{"job_id":"01a1ffbf-aa18-7518-8965-e3dc228e91cd","attempt":1}]',1,'settled','{"state":"settled"}',1795292113437817);
INSERT INTO batches VALUES(X'01a1ffbfaa857027acdbc9a9d817a158','default','test.example.org','/broken','[{"job_id":"01a1ffbf-aa7c-70f6-8fda-0136496ca78d","attempt":1}]',1,'settled','{"state":"settled"}',1795292113541576);
INSERT INTO batches VALUES(X'01a1ffbfb8a675b3aa0181ef49371e86','default','test.example.org','/marks','[{"job_id":"01a1ffbf-b8a4-7521-91b6-6d8660d87377","attempt":1}]',1,'unsent','{"state":"unsent"}',1795292117158229);
DELETE FROM sqlite_sequence;
INSERT INTO sqlite_sequence VALUES('jobs',4);
INSERT INTO sqlite_sequence VALUES('events',12);
CREATE INDEX jobs_ready ON jobs (repository, priority DESC, seq) WHERE state = 'queued';
CREATE INDEX jobs_due ON jobs (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX jobs_state ON jobs (state, seq);
CREATE INDEX jobs_submission ON jobs (submission, seq);
CREATE INDEX jobs_repository ON jobs (repository, seq);
CREATE INDEX jobs_name ON jobs (name, seq);
CREATE INDEX jobs_submitter ON jobs (submitter, seq);
CREATE INDEX dependents ON dependencies (depends_on, job);
CREATE INDEX events_job ON events (job, number);
CREATE INDEX batches_live ON batches (repository, state) WHERE state <> 'settled';
CREATE INDEX batches_offers ON batches (fleet, state, id) WHERE state IN ('unsent', 'offered');
COMMIT;
PRAGMA user_version=1;
