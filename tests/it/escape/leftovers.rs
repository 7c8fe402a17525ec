//! What a script leaves behind: nothing.

use std::path::Path;

use super::prison::{Prison, Warden};
use crate::harness::{processes_with, until};

/// A time to sleep that nobody else sleeps.
fn word() -> String {
    format!("1{:018}", uuid::Uuid::now_v7().as_u128() % 1_000_000_000_000_000_000)
}

/// What System V has of memory, queues and semaphores, a line each.
fn shared_things() -> String {
    ["shm", "msg", "sem"].map(|kind| std::fs::read_to_string(format!("/proc/sysvipc/{kind}")).unwrap()).concat()
}

fn leaves_nothing_behind(warden: Warden) {
    let Some(prison) = Prison::build(warden) else { return };
    let before = shared_things();
    // A word that is in the arguments of whatever is left, and nowhere else on this machine.
    let word = word();
    let sleep = format!("exec sleep {word}");
    let leave = format!(
        "#!/bin/sh
         sh -c '{sleep}' &
         setsid sh -c 'trap \"\" TERM HUP INT; {sleep}' </dev/null >/dev/null 2>&1 &
         (env -i setsid sh -c 'trap \"\" TERM HUP; (setsid sh -c \"cd escape; exec 5>file; {sleep}\" &)' &)
         (env -i setsid sh -c 'exec 6<outside/file; cd /tmp; {sleep}' >/dev/null 2>&1 &)
         unshare --user --map-root-user --mount --pid --fork setsid sh -c 'mount -t tmpfs x escape; {sleep}' >/dev/null 2>&1 &
         for i in $(seq 300); do {{ {sleep}; }} & done 2>/dev/null
         ipcmk -M 4096 >/dev/null; ipcmk -Q >/dev/null; ipcmk -S 1 >/dev/null
         echo x >/dev/shm/{word}; echo x >/tmp/{word}; echo x >/var/tmp/{word}
         echo kept >escape/kept
         until [ $(ls -d /proc/[0-9]* | wc -l) -gt 300 ]; do :; done; echo \"$(ls -d /proc/[0-9]* | wc -l) processes\"
         HOW"
    );
    for how in ["exit 0", "exit 1", "kill -9 $$", "kill -9 -1", "kill -9 1; exit 0"] {
        let log = prison.ended_log(&leave.replace("HOW", how));
        assert!(log.contains(" processes\n"), "{warden:?} {how}: {log}");
        // At its end the job has been reported, so that there is nothing to wait for.
        assert_eq!(processes_with(&word), Vec::<String>::new(), "{warden:?} {how}: {log}");
        assert_eq!(shared_things(), before, "{warden:?} {how}");
        for place in ["/dev/shm", "/tmp", "/var/tmp"] {
            assert!(!Path::new(place).join(&word).exists(), "{warden:?} {how}: {place}");
        }
        let root = prison.server().base().join("tmp-n1");
        assert_eq!(conveyor::publisher::mounts::holders(&[root]).unwrap(), [], "{warden:?} {how}");
        prison.stands();
    }
}

#[test]
fn nothing_is_left_of_a_script_of_roots_worker() {
    leaves_nothing_behind(Warden::Root);
}

#[test]
fn nothing_is_left_of_a_script_of_an_ordinary_workers_account() {
    leaves_nothing_behind(Warden::Ordinary);
}

fn ends_with_its_worker(warden: Warden) {
    let Some(mut prison) = Prison::build(warden) else { return };
    let word = word();
    let text = format!("#!/bin/sh\n(env -i setsid sleep {word} &)\nexec sleep {word}\n");
    let id = prison.submit(&text);
    until("the script runs", || (processes_with(&word).len() == 2).then_some(()));
    prison.kill_worker();
    until("the script is gone", || processes_with(&word).is_empty().then_some(()));
    prison.cancel(id);
    prison.start_worker();
    prison.stands();
}

#[test]
fn a_script_dies_with_the_worker_of_root() {
    ends_with_its_worker(Warden::Root);
}

#[test]
fn a_script_dies_with_an_ordinary_worker() {
    ends_with_its_worker(Warden::Ordinary);
}
