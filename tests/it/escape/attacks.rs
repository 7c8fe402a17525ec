//! The attacks: shell commands that succeed only if they get what they must not.
//!
//! In them, words in capital letters stand for what is really there: `REPOSITORIES`, `KEYS`, `TOKEN`, `STATE`, `TEMP`, `CONFIG`
//! are paths, `WORKER` is the worker's process number, `CALL` runs a system call.

/// What an attack is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Writing,
    Mounting,
    Reading,
    Processes,
    Rights,
    /// The same from a user namespace of the script's own, in which it is root.
    Nested,
}

impl Kind {
    pub(super) const ALL: [Self; 6] =
        [Self::Writing, Self::Mounting, Self::Reading, Self::Processes, Self::Rights, Self::Nested];
}

pub(super) struct Attack {
    pub(super) kind: Kind,
    pub(super) name: &'static str,
    pub(super) command: &'static str,
}

const fn attack(kind: Kind, name: &'static str, command: &'static str) -> Attack {
    Attack { kind, name, command }
}

use Kind::{Mounting, Nested, Processes, Reading, Rights, Writing};

pub(super) const ATTACKS: &[Attack] = &[
    attack(Writing, "write beside the lease", "echo x >beside"),
    attack(Writing, "make a directory beside the lease", "mkdir -p other/place"),
    attack(Writing, "change a file outside", "echo x >>outside/file"),
    attack(Writing, "remove a file outside", "test -e outside/file && rm -f outside/file"),
    attack(Writing, "change its own script", "echo x >>\"$0\""),
    attack(Writing, "replace the lease", "rmdir escape && ln -s /etc escape"),
    attack(Writing, "write through a link", "ln -s \"$PWD/outside/file\" escape/link; echo x >>escape/link"),
    attack(Writing, "link a file outside into the lease", "ln outside/file escape/hard && echo x >>escape/hard"),
    attack(Writing, "write into the system", "echo x >/etc/conveyor-was-here || echo x >/var/conveyor-was-here"),
    attack(Writing, "write into the storage", "echo x >REPOSITORIES/x"),
    attack(Writing, "write into the worker's state", "echo x >STATE/x"),
    attack(Writing, "write into the scratch of others", "echo x >TEMP/x"),
    attack(Writing, "replace the program", "cp /bin/true PROGRAM"),
    attack(Writing, "write to a disk", "for d in /dev/[svx]d[a-z] /dev/nvme*n1; do test -w $d && exit 0; done; false"),
    attack(Writing, "set a kernel's setting", "echo x >/proc/sys/kernel/core_pattern || echo 1 >/proc/sysrq-trigger"),
    attack(
        Writing,
        "change a control group",
        "mkdir /sys/fs/cgroup/*/was-here || echo $$ >/sys/fs/cgroup/cgroup.procs",
    ),
    attack(Mounting, "remount the root", "mount -o remount,bind,rw /"),
    attack(Mounting, "remount the repository", "mount -o remount,bind,rw . && echo x >beside"),
    attack(Mounting, "unmount what hides the storage", "umount REPOSITORIES || umount -l REPOSITORIES"),
    attack(Mounting, "unmount what hides the state", "umount STATE || umount -l STATE"),
    attack(Mounting, "unmount what hides the token", "umount TOKEN || umount -l TOKEN"),
    attack(Mounting, "mount by system call", "CALL mount none / none $((0x1020)) x"),
    attack(Mounting, "unmount by system call", "CALL umount REPOSITORIES 2"),
    attack(Mounting, "mount something", "mount -t tmpfs none escape"),
    attack(
        Mounting,
        "mount a disk",
        "for d in /dev/[svx]d[a-z] /dev/nvme*n1; do mount $d escape && exit 0; done; false",
    ),
    attack(Mounting, "pivot", "pivot_root . escape || CALL pivot . escape"),
    attack(Reading, "read the storage", "ls -A REPOSITORIES | grep ."),
    attack(Reading, "read the keys", "ls -A KEYS | grep ."),
    attack(Reading, "read a key", "cat KEYS/test.example.org.key"),
    attack(Reading, "read the token", "grep . TOKEN"),
    attack(Reading, "read the configuration", "grep . CONFIG"),
    attack(Reading, "read the worker's state", "ls -A STATE | grep ."),
    attack(Reading, "read the server's state", "ls -A SERVER | grep ."),
    attack(Reading, "see other batches", "test $(ls -A TEMP | wc -l) -gt 1"),
    attack(Reading, "see the machine's temporary files", "ls /tmp/BAIT /var/tmp/BAIT"),
    attack(Reading, "read the worker's environment", "cat /proc/WORKER/environ"),
    attack(Reading, "read the keeper's environment", "cat /proc/1/environ | grep -q ."),
    attack(Reading, "read the keeper's memory", "head -c 1 /proc/1/mem || grep -q . /proc/1/maps"),
    attack(Reading, "go through the keeper's root", "ls /proc/1/root/ || ls /proc/1/cwd/"),
    attack(Reading, "open by handle", "CALL handle REPOSITORIES"),
    attack(Reading, "open the root by handle", "CALL handle /"),
    attack(Processes, "signal the worker", "kill -9 WORKER || kill -0 WORKER"),
    attack(Processes, "see the worker", "test -e /proc/WORKER/stat && grep -q conveyor /proc/WORKER/comm"),
    attack(Processes, "see processes of others", "test $(ls -d /proc/[0-9]* | wc -l) -gt 12"),
    attack(Processes, "trace the worker", "CALL ptrace WORKER"),
    attack(Processes, "trace the keeper", "CALL ptrace 1"),
    attack(Processes, "enter the keeper's namespaces", "nsenter -t 1 -m true || nsenter -t 1 -p true"),
    attack(Processes, "enter the worker's namespaces", "nsenter -t WORKER -m true"),
    attack(Processes, "raise its limits", "bash -c 'ulimit -u 100000' || bash -c 'ulimit -c unlimited'"),
    attack(Processes, "see the machine's message queues", "test $(ipcs -q 2>/dev/null | grep -c 0x) -gt 0"),
    attack(Rights, "become root by su", "su root -c true"),
    attack(Rights, "become root by sudo", "sudo -n true"),
    attack(
        Rights,
        "become root by a program of its own",
        "cp /usr/bin/id escape/id && chmod u+s escape/id && escape/id -u | grep -x 0",
    ),
    attack(Rights, "become somebody else", "setpriv --reuid 1 --clear-groups true || setpriv --reuid 0 true"),
    attack(
        Rights,
        "have a capability",
        "grep -E 'Cap(Inh|Prm|Eff|Bnd|Amb)' /proc/self/status | grep -vE '0000000000000000$'",
    ),
    attack(Rights, "gain rights by a program", "grep -q 'NoNewPrivs:.*0' /proc/self/status"),
    attack(Rights, "change the root directory", "chroot . true"),
    attack(Rights, "make a device", "mknod escape/disk b 8 0 || mknod escape/mem c 1 1"),
    attack(Rights, "set the clock", "date -s 2000-01-01"),
    attack(Rights, "set the host's name", "hostname conveyor-was-here"),
    attack(Nested, "unmount what hides the storage, nested", "NESTED 'umount REPOSITORIES || umount -l REPOSITORIES'"),
    attack(
        Nested,
        "unmount what hides the state, nested",
        "NESTED 'umount STATE || umount -l STATE; ls -A STATE | grep .'",
    ),
    attack(Nested, "unmount what hides the token, nested", "NESTED 'umount TOKEN; umount -l TOKEN; grep . TOKEN'"),
    attack(Nested, "remount the repository, nested", "NESTED 'mount -o remount,bind,rw .; echo x >beside'"),
    attack(Nested, "remount the root, nested", "NESTED 'mount -o remount,bind,rw /; echo x >/etc/conveyor-was-here'"),
    attack(
        Nested,
        "bind what is below, nested",
        "NESTED 'mount --bind / escape && ls -A escape/REPOSITORIES | grep .'",
    ),
    attack(
        Nested,
        "bind and unmount, nested",
        "NESTED 'mount --rbind / escape && umount -l escape/STATE; ls -A escape/STATE | grep .'",
    ),
    attack(
        Nested,
        "move what hides, nested",
        "NESTED 'mount --move REPOSITORIES escape && ls -A REPOSITORIES | grep .'",
    ),
    attack(Nested, "open by handle, nested", "NESTED 'CALL handle REPOSITORIES || CALL handle /'"),
    attack(
        Nested,
        "change the root directory, nested",
        "NESTED 'chroot . /bin/true || chroot / sh -c \"ls -A REPOSITORIES | grep .\"'",
    ),
    attack(Nested, "make a device, nested", "NESTED 'mknod escape/disk b 8 0 || mknod escape/mem c 1 1'"),
    attack(
        Nested,
        "see processes, nested",
        "NESTED --pid --fork 'mount -t proc proc /proc; test $(ls -d /proc/[0-9]* | wc -l) -gt 12'",
    ),
    attack(Nested, "trace the keeper, nested", "NESTED 'CALL ptrace 1'"),
    attack(Nested, "enter the keeper's namespaces, nested", "NESTED 'nsenter -t 1 -m true'"),
    attack(Nested, "become root by su, nested", "NESTED 'su root -c \"cat KEYS/test.example.org.key\"'"),
    attack(
        Nested,
        "write to a disk, nested",
        "NESTED 'for d in /dev/[svx]d[a-z]; do test -w $d && exit 0; done; false'",
    ),
];

/// System calls for which there are no commands: `call.pl NAME ARGUMENT…`. It ends with 0 if the call was granted.
pub(super) const CALLS: &str = r#"
use strict;
my %x86 = (ptrace => 101, mount => 165, umount => 166, pivot => 155, name => 303, handle => 304);
my %arm = (ptrace => 117, mount => 40, umount => 39, pivot => 41, name => 264, handle => 265);
my %number = `uname -m` =~ /aarch64/ ? %arm : %x86;
my ($what, @rest) = @ARGV;
my $result = -1;
if ($what eq "ptrace") {
    # PTRACE_SEIZE, which does not stop it.
    $result = syscall($number{ptrace}, 0x4206, $rest[0] + 0, 0, 0);
} elsif ($what eq "mount") {
    $result = syscall($number{mount}, $rest[0], $rest[1], $rest[2], $rest[3] + 0, $rest[4]);
} elsif ($what eq "umount") {
    $result = syscall($number{umount}, $rest[0], $rest[1] + 0);
} elsif ($what eq "pivot") {
    $result = syscall($number{pivot}, $rest[0], $rest[1]);
} elsif ($what eq "handle") {
    # The handle of a visible directory's root: with it, what lies below a cover could be named.
    my $handle = pack("I i", 128, 0) . ("\0" x 128);
    my $id = pack("i", 0);
    if (syscall($number{name}, -100, $rest[0], $handle, $id, 0) == 0) {
        opendir(my $dir, "/") or exit 1;
        open(my $mount, "<", "/etc/passwd") or exit 1;
        $result = syscall($number{handle}, fileno($mount), $handle, 0);
    }
}
print "$what: $result $!\n";
exit($result >= 0 ? 0 : 1);
"#;
