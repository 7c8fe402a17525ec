//! The worker's unit shares the machine's mounts and may gain privileges, whichever example is applied.

use super::{directives, examples};

/// Directives of which systemd 252 to 258 make mounts of the unit's own.
const MOUNTS: &[&str] = &[
    "BindLogSockets",
    "BindPaths",
    "BindReadOnlyPaths",
    "DynamicUser",
    "ExecPaths",
    "ExtensionDirectories",
    "ExtensionImages",
    "IPCNamespacePath",
    "InaccessibleDirectories",
    "InaccessiblePaths",
    "JoinsNamespaceOf",
    "LogNamespace",
    "MountAPIVFS",
    "MountFlags",
    "MountImages",
    "NetworkNamespacePath",
    "NoExecPaths",
    "PrivateBPF",
    "PrivateDevices",
    "PrivateIPC",
    "PrivateMounts",
    "PrivateNetwork",
    "PrivatePIDs",
    "PrivateTmp",
    "ProcSubset",
    "ProtectClock",
    "ProtectControlGroups",
    "ProtectHome",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "ProtectProc",
    "ProtectSystem",
    "ReadOnlyDirectories",
    "ReadOnlyPaths",
    "ReadWriteDirectories",
    "ReadWritePaths",
    "RootDirectory",
    "RootEphemeral",
    "RootImage",
    "RootMStack",
    "TemporaryFileSystem",
];

/// Directives that set `no_new_privs`, some of them only where the account is not root, or that take away what a
/// set-user-id helper, a mount or a script's isolation needs.
const PRIVILEGES: &[&str] = &[
    "AmbientCapabilities",
    "CapabilityBoundingSet",
    "DeviceAllow",
    "DevicePolicy",
    "LockPersonality",
    "MemoryDenyWriteExecute",
    "NoNewPrivileges",
    "PrivateUsers",
    "RestrictAddressFamilies",
    "RestrictFileSystems",
    "RestrictNamespaces",
    "RestrictRealtime",
    "RestrictSUIDSGID",
    "SecureBits",
    "SystemCallArchitectures",
    "SystemCallFilter",
    "SystemCallLog",
    "UserNamespacePath",
];

/// What of a unit or drop-in a worker must not have. A value that switches it off counts, too: it would not be there.
pub(crate) fn forbidden(text: &str) -> Vec<String> {
    let listed = |key: &str| MOUNTS.contains(&key) || PRIVILEGES.contains(&key);
    directives(text).into_iter().map(|directive| directive.key).filter(|key| listed(key)).collect()
}

#[test]
fn nothing_of_the_worker_makes_mounts_of_its_own_or_takes_privileges() {
    assert_eq!(forbidden(&super::text("conveyor-worker.service")), [""; 0]);
    let mut seen = 0;
    for example in
        examples().iter().filter(|example| example.units.iter().any(|unit| unit == "conveyor-worker.service"))
    {
        assert_eq!(forbidden(&example.text), [""; 0], "{}", example.name);
        seen += 1;
    }
    assert!(seen >= 3, "too few examples are for the worker: {seen}");
}

#[test]
fn each_such_directive_is_found() {
    let unit = super::text("conveyor-worker.service");
    for key in MOUNTS.iter().chain(PRIVILEGES) {
        let planted = unit.replace("[Install]", &format!("{key}=yes\n\n[Install]"));
        assert_eq!(forbidden(&planted), [*key]);
    }
    assert!(!forbidden(&super::text("conveyor-server.service")).is_empty(), "the hardened server passes for a worker");
}

/// The unit's comment is read by those who wonder; it must not forget one that they would try first.
#[test]
fn the_reasons_are_beside_it() {
    let unit = super::text("conveyor-worker.service");
    for key in [
        "ProtectSystem=",
        "PrivateTmp=",
        "ReadWritePaths=",
        "NoNewPrivileges=",
        "CapabilityBoundingSet=",
        "RestrictNamespaces=",
    ] {
        let said = unit.lines().any(|line| line.starts_with('#') && line.contains(key));
        assert!(said, "no reason is given for the absence of {key}");
    }
}
