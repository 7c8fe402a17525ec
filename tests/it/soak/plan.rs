//! What happens to whom, decided by a seed. When exactly it meets them is up to the machine.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Something that happens. Servers are numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// `kill -9`, and a new start.
    Kill(usize),
    /// The end in order, and a new start.
    Stop(usize),
    /// A server stands still for so many ms.
    Freeze(usize, u64),
    /// All connections of a server's subscribers end.
    Cut(usize),
    /// All connections of all servers to the broker end.
    CutBroker,
    /// The broker is killed, or ended in order, and started again.
    Broker { killed: bool },
    /// Programs that subscribe stand still until the next fault.
    Subscribers,
    /// Whoever publishes goes in the middle.
    Publisher(usize),
}

/// A restart of the broker takes so long that of a hundred faults two are one, and a short plan has one all the same.
fn fault(random: &mut ChaCha8Rng, number: usize, count: usize, servers: usize) -> Fault {
    let server = random.random_range(0..servers);
    let dice = random.random_range(0..1000);
    let has_broker = servers > 1;
    match dice {
        _ if has_broker && number == count / 2 => Fault::Broker { killed: dice < 500 },
        0..260 => Fault::Kill(server),
        260..480 => Fault::Stop(server),
        480..560 => Fault::Freeze(server, random.random_range(0..1000)),
        560..760 => Fault::Cut(server),
        760..840 if has_broker => Fault::CutBroker,
        840..860 if has_broker => Fault::Broker { killed: dice < 850 },
        760..880 => Fault::Subscribers,
        _ => Fault::Publisher(server),
    }
}

/// So many faults.
pub(super) fn plan(seed: u64, count: usize, servers: usize) -> Vec<Fault> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|number| fault(&mut random, number, count, servers)).collect()
}

#[test]
fn a_seed_gives_the_same_plan_again_and_every_kind_of_fault() {
    let long = plan(7, 1000, 2);
    assert_eq!(long, plan(7, 1000, 2));
    let is_there = |wanted: fn(&Fault) -> bool| long.iter().any(wanted);
    assert!(is_there(|fault| matches!(fault, Fault::Kill(1))) && is_there(|fault| matches!(fault, Fault::Stop(0))));
    assert!(is_there(|fault| matches!(fault, Fault::Cut(_))) && is_there(|fault| *fault == Fault::CutBroker));
    assert!(is_there(|fault| *fault == Fault::Subscribers) && is_there(|fault| matches!(fault, Fault::Publisher(_))));
    assert!(is_there(|fault| matches!(fault, Fault::Freeze(..))));
    for killed in [false, true] {
        assert!(long.contains(&Fault::Broker { killed }));
    }
    assert!(plan(1, 10, 2).iter().any(|fault| matches!(fault, Fault::Broker { .. })));
    assert!(!plan(1, 100, 1).iter().any(|fault| matches!(fault, Fault::Broker { .. } | Fault::CutBroker)));
}
