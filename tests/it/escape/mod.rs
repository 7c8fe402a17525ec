//! Scripts that try to get out: of their directory, of their namespaces, of their time. Real processes, through a real server
//! and a real worker, which must serve the next job as if nothing had been.

mod attacks;
mod leftovers;
mod live;
mod means;
mod prison;

use attacks::{ATTACKS, Kind};
use prison::{Prison, Warden};

/// What every kind of worker must withstand.
fn withstands_every_attack(warden: Warden) {
    let Some(prison) = Prison::build(warden) else { return };
    let mut tried = 0;
    // One job for each kind: what one attack breaks for the script itself must not spare the next.
    for kind in Kind::ALL {
        let attacks: Vec<_> = ATTACKS.iter().filter(|attack| attack.kind == kind).collect();
        let log = prison.run(&attacks);
        let escaped: Vec<_> = log.lines().filter(|line| line.starts_with("escaped")).collect();
        assert!(escaped.is_empty(), "{warden:?} {kind:?}: {escaped:?}\n{log}");
        // What is tried from a namespace of the script's own is tried only where it may have one.
        assert!(warden == Warden::Root || log.contains("nested\n"), "{log}");
        for attack in attacks {
            assert!(
                log.contains(&format!("tried {}\n", attack.name)),
                "{warden:?}: {} was not tried\n{log}",
                attack.name
            );
            tried += 1;
        }
        prison.stands();
    }
    assert_eq!(tried, ATTACKS.len());
}

#[test]
fn a_script_of_roots_worker_stays_where_it_is() {
    withstands_every_attack(Warden::Root);
}

#[test]
fn a_script_of_an_ordinary_workers_account_stays_where_it_is() {
    withstands_every_attack(Warden::Ordinary);
}
