//! What a host may lack, and what to do about it.

use nix::errno::Errno;
use nix::unistd::geteuid;

/// Settings of the kernel that keep ordinary users from having user namespaces; absent where a kernel knows none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Settings {
    /// `user.max_user_namespaces`.
    most: Option<u64>,
    /// `kernel.unprivileged_userns_clone`, of Debian and others.
    clone: Option<u64>,
    /// `kernel.apparmor_restrict_unprivileged_userns`, of Ubuntu.
    apparmor: Option<u64>,
}

impl Settings {
    fn of_this_host() -> Self {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/{name}")).ok()?.trim().parse().ok();
        Self {
            most: read("user/max_user_namespaces"),
            clone: read("kernel/unprivileged_userns_clone"),
            apparmor: read("kernel/apparmor_restrict_unprivileged_userns"),
        }
    }
}

/// What to do where a step of a view failed; empty where the error says it all.
pub(in crate::payload::script) fn explain(step: &str, errno: Errno) -> &'static str {
    advise(step, errno, geteuid().is_root(), Settings::of_this_host())
}

fn advise(step: &str, errno: Errno, is_root: bool, settings: Settings) -> &'static str {
    let refused = matches!(errno, Errno::EPERM | Errno::EACCES | Errno::ENOSPC | Errno::EUSERS);
    match step {
        _ if errno == Errno::ENOSYS || (errno == Errno::EINVAL && step.starts_with("get a ")) => {
            "this kernel was built without that kind of namespace"
        }
        _ if refused && !is_root && settings.most == Some(0) => {
            "user namespaces are switched off: sysctl -w user.max_user_namespaces=15000, or run the worker as root"
        }
        _ if refused && !is_root && settings.clone == Some(0) => {
            "user namespaces are switched off for ordinary users: sysctl -w kernel.unprivileged_userns_clone=1, or run the \
             worker as root"
        }
        _ if refused && !is_root && settings.apparmor.is_some_and(|restricted| restricted > 0) => {
            "AppArmor takes the rights in user namespaces away: give conveyor a profile that allows userns, or sysctl -w \
             kernel.apparmor_restrict_unprivileged_userns=0, or run the worker as root"
        }
        "get a user namespace" if matches!(errno, Errno::ENOSPC | Errno::EUSERS) => {
            "there are as many user namespaces as user.max_user_namespaces allows, or they are nested too deep"
        }
        "enter its working directory" if errno == Errno::EACCES => {
            "the script's account cannot pass through a directory above it: put temp_dir where it can"
        }
        "let go of the mounts of other repositories" if errno == Errno::EBUSY => {
            "one of them cannot be unmounted, and its repository's publish would wait for the script"
        }
        "mount /proc" if refused && !is_root => {
            "parts of /proc are covered, as container runtimes do: start the container with \
             --security-opt systempaths=unconfined, or run the worker outside"
        }
        _ if refused && is_root => {
            "root lacks CAP_SYS_ADMIN here, or a security profile forbids it: in a container add --cap-add SYS_ADMIN and a \
             profile that allows unshare and mount, under systemd let CapabilityBoundingSet and RestrictNamespaces be"
        }
        _ if refused => {
            "a security profile (seccomp, AppArmor, SELinux) forbids it: allow unshare and mount, or run the worker as root"
        }
        _ => "",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_user_namespaces_away_is_named() {
        let none = Settings::default();
        let most = Settings { most: Some(0), ..none };
        let clone = Settings { clone: Some(0), most: Some(100), ..none };
        let apparmor = Settings { apparmor: Some(1), clone: Some(1), most: Some(100) };
        let userns = "get a user namespace";
        for (step, errno, settings, said) in [
            (userns, Errno::ENOSPC, most, "user.max_user_namespaces=15000"),
            (userns, Errno::EPERM, clone, "kernel.unprivileged_userns_clone=1"),
            ("get a mount and an IPC namespace", Errno::EPERM, apparmor, "AppArmor"),
            (userns, Errno::EACCES, apparmor, "kernel.apparmor_restrict_unprivileged_userns=0"),
            (userns, Errno::ENOSPC, none, "as many user namespaces"),
            (userns, Errno::EINVAL, none, "built without"),
            (userns, Errno::EPERM, none, "security profile"),
            ("mount /proc", Errno::EPERM, none, "systempaths=unconfined"),
        ] {
            let advice = advise(step, errno, false, settings);
            assert!(advice.contains(said), "{step} {errno}: {advice}");
        }
    }

    #[test]
    fn what_root_lacks_is_named() {
        let advice = |step, errno| advise(step, errno, true, Settings { most: Some(0), ..Settings::default() });
        assert!(advice("get a PID namespace", Errno::EPERM).contains("CAP_SYS_ADMIN"));
        assert!(advice("enter its working directory", Errno::EACCES).contains("temp_dir"));
        assert_eq!(advice("make the file systems read-only", Errno::EIO), "");
    }
}
