//! What `cvmfs_server` 2.12 was measured to answer: exit code and texts, by situation. The stand-in answers from this table,
//! and the tests compare with it whatever answers: the stand-in, or the real one.

/// An answer. `{repository}`, `{spool}`, `{union}`, `{url}`, `{api}`, `{tag}`, `{option}` and `{path}` stand for what they say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    /// The situation, in the words of its command: `publish/whitelist-expired`.
    pub(crate) name: &'static str,
    /// The exit code.
    pub(crate) code: i32,
    /// Pieces of lines on standard output, in this order.
    pub(crate) stdout: &'static [&'static str],
    /// The same on standard error.
    pub(crate) stderr: &'static [&'static str],
}

const fn row(name: &'static str, code: i32, stdout: &'static [&'static str], stderr: &'static [&'static str]) -> Row {
    Row { name, code, stdout, stderr }
}

const NO_CONFIGURATION: &str =
    "CernVM-FS error: Unable to find the configuration file `server.conf` for the cvmfs publisher: {repository}";
const STACK: &str = "Stacktrace:";
const GATEWAY_OK: &str = "Gateway reply: ok";

pub(crate) const TRANSACTION: &[Row] = &[
    row("transaction/ok", 0, &[], &[]),
    row("transaction/ok-gateway", 0, &[GATEWAY_OK], &[]),
    row("transaction/open", 17, &[], &["CernVM-FS transaction error: another transaction is already open"]),
    row(
        "transaction/read-only",
        1,
        &[],
        &[
            "{repository} is in a transaction but {union} is not mounted read/write",
            "Repository {repository} is in a transaction and cannot be repaired.",
            "(unexpected termination) cannot establish writable mountpoint",
            STACK,
        ],
    ),
    row(
        "transaction/publishing",
        1,
        &[],
        &[
            "{repository} is in a transaction but {union} is not mounted read/write",
            "WARNING: The repository {repository} is currently publishing and should not",
            "be touched",
            "{spool}/is_publishing.lock",
        ],
    ),
    row("transaction/unknown-repository", 1, &[], &[NO_CONFIGURATION]),
    row("transaction/bad-option", 1, &[], &["Invocation error: transaction: unrecognized parameter '-Q'"]),
    row("transaction/not-owner", 1, &[], &["Permission error: No write permission to repository"]),
    row("transaction/server-down", 5, &[], &["cannot load whitelist [failed to download whitelist]"]),
    row("transaction/whitelist-expired", 5, &[], &["cannot load whitelist [expired whitelist]"]),
    row(
        "transaction/path-busy",
        16,
        &["Path busy. Time remaining = "],
        &["CernVM-FS transaction error: lease path busy"],
    ),
    row(
        "transaction/no-parent",
        2,
        &[GATEWAY_OK, GATEWAY_OK],
        &["CernVM-FS transaction error: cannot open transaction on non-existing path /{path}"],
    ),
    row(
        "transaction/parent-is-a-file",
        20,
        &[GATEWAY_OK, GATEWAY_OK],
        &["CernVM-FS transaction error: cannot open transaction on non-directory path /{path}"],
    ),
    row(
        "transaction/gateway-down",
        1,
        &[],
        &["Make lease acquire request failed: 7. Reply: ", "(unexpected termination) cannot acquire lease", STACK],
    ),
    row(
        "transaction/wrong-secret",
        1,
        &["Error: 'invalid_hmac'"],
        &["(unexpected termination) cannot parse session token", STACK],
    ),
    row("transaction/no-key", 5, &[], &["gateway key missing: "]),
    row("transaction/out-of-date", 0, &[], &["{repository} is not based on the newest published revision"]),
];

pub(crate) const ABORT: &[Row] = &[
    row("abort/ok", 0, &[], &[]),
    row("abort/ok-gateway", 0, &[GATEWAY_OK], &[]),
    row("abort/end-of-file-is-yes", 0, &["You are about to DISCARD ALL CHANGES", "(y/N)?"], &[]),
    row("abort/answer-is-no", 4, &["You are about to DISCARD ALL CHANGES"], &[]),
    row("abort/not-open", 22, &[], &["Repository {repository} is not in a transaction"]),
    row("abort/publishing", 22, &[], &["Could not acquire lock {spool}/is_publishing.lock"]),
    row("abort/inside", 1, &["Current working directory is in {union}.  Please release, e.g. by 'cd $HOME'."], &[]),
    row("abort/unknown-repository", 1, &[], &[NO_CONFIGURATION]),
    row("abort/server-down", 1, &[], &["(unexpected termination) cannot load whitelist"]),
    row("abort/gateway-down", 5, &[], &["Make lease drop request failed: 7", "cannot drop lease"]),
];

const SYNC_FAILED: &str = "Synchronization failed";

pub(crate) const PUBLISH: &[Row] = &[
    row(
        "publish/ok",
        0,
        &["Swissknife Sync: Processing changes...", "Remounting newly created repository revision"],
        &[],
    ),
    row(
        "publish/ok-gateway",
        0,
        &["Swissknife Sync: Processing changes...", "Changes submitted to repository gateway"],
        &[],
    ),
    row("publish/automatic-tag", 0, &["Using auto tag 'generic-"], &[]),
    row("publish/not-open", 1, &["Repository {repository} is not in a transaction"], &[]),
    row("publish/unknown-repository", 1, &[], &["The repository {repository} does not exist."]),
    row("publish/publishing", 1, &[], &["Another publish process is active for {repository}"]),
    row("publish/bad-option", 3, &["Supported Commands:"], &["Illegal option -Q"]),
    row("publish/writable-descriptor", 1, &["Open writable file descriptors on {repository}"], &[]),
    row("publish/held", 1, &["Do you want to proceed anyway? (y/N)", "aborted."], &[]),
    row("publish/inside", 1, &["Current working directory is in {union}.  Please release, e.g. by 'cd $HOME'."], &[]),
    row("publish/tag-used", 1, &[], &["Tag name '{tag}' is already in use."]),
    row("publish/tag-with-a-space", 1, &[], &["Spaces are not allowed in tag names"]),
    row("publish/server-down", 1, &["Repository unavailable under {url}"], &[]),
    row("publish/whitelist-expired", 1, &["Repository whitelist for {repository} is expired!"], &[]),
    row("publish/not-owner", 2, &[], &["cannot create {spool}/is_publishing.lock: Permission denied"]),
    row(
        "publish/read-only",
        1,
        &[],
        &[
            "{repository} is in a transaction but {union} is not mounted read/write",
            "Repository {repository} is in a transaction and cannot be repaired.",
            "--> Run `cvmfs_server abort {repository}` to revert and repair.",
        ],
    ),
    row(
        "publish/lease-expired",
        1,
        &[],
        &[
            "SessionContext::DoUpload - error reply: {\"reason\":\"invalid lease\",\"status\":\"error\"}",
            "terminate called",
            "PANIC",
            "Killed",
            SYNC_FAILED,
        ],
    ),
    row(
        "publish/gateway-down",
        1,
        &[],
        &["SessionContext::DoUpload - curl_easy_perform failed: 7", "Killed", SYNC_FAILED],
    ),
    row("publish/commit-refused", 1, &[], &["Lease end request - error reply: ", SYNC_FAILED]),
    row("publish/no-space", 1, &[], &["No space left on device", SYNC_FAILED]),
    row("publish/interrupted", 1, &[], &[SYNC_FAILED]),
    row("publish/tagging-failed", 1, &[], &["Tagging failed"]),
];

pub(crate) const OTHER: &[Row] =
    &[row("unknown-command", 3, &["Supported Commands:", "NOTE: Unrecognized command: x"], &[])];

/// All rows.
pub(crate) fn all() -> impl Iterator<Item = &'static Row> {
    [TRANSACTION, ABORT, PUBLISH, OTHER].into_iter().flatten()
}

/// Puts what they stand for in the place of the words in braces.
pub(crate) fn fill(text: &str, words: &[(&str, &str)]) -> String {
    words.iter().fold(text.to_owned(), |text, (word, value)| text.replace(&format!("{{{word}}}"), value))
}
