//! Every named point: the process that passes it dies there, while the others work on.

use std::time::Instant;

use super::Work;
use super::site::{Site, Target};
use crate::harness::{no_rabbit, shared};

/// Points that are passed only where something was lost before.
const NEED_A_LOSS: [&str; 4] = ["finding.before", "finding.after", "worker.recovering", "worker.found"];
/// Where to lose it.
const LOSS: &str = "worker.permitted";
/// Parts whose points are met in tests of their own: nothing of them runs here.
const ELSEWHERE: [&str; 6] = ["retention.", "backup.", "restore.", "visible.", "notify.", "cvmfs-server."];
/// Who dies.
const WORKER: Target = Target::Worker(0);

/// The process that passes a point.
fn passer(point: &str) -> Target {
    let of_workers = ["worker.", "native.", "broker.before-ack", "broker.acknowledged"];
    if of_workers.iter().any(|part| point.starts_with(part)) { WORKER } else { Target::Server }
}

#[test]
fn a_process_of_a_fleet_that_dies_at_any_named_point_loses_nothing_and_publishes_nothing_twice() {
    if no_rabbit() {
        return;
    }
    let wanted = std::env::var("CONVEYOR_KILL_POINT").ok();
    let is_here = |point: &&str| !ELSEWHERE.iter().any(|part| point.starts_with(part));
    let is_wanted = |point: &&str| wanted.as_ref().is_none_or(|wanted| wanted == point);
    let points: Vec<_> = conveyor::crash::ALL.iter().copied().filter(is_here).filter(is_wanted).collect();
    assert!(!points.is_empty(), "there is no such point");

    let began = Instant::now();
    let mut site = Site::start(shared().port(), &shared().vhost(), None);
    let mut work = Work::start(&site, rand::random());
    for point in &points {
        println!("{point}");
        let (target, needs_a_loss) = (passer(point), NEED_A_LOSS.contains(point));
        let mut died = |site: &mut Site, target: Target| {
            assert_eq!(site.died(target), Ok(()), "{point}");
            assert_eq!(work.look(site), Ok(()), "{point}");
        };
        if needs_a_loss || target == WORKER {
            site.kill(WORKER);
        }
        if needs_a_loss {
            site.start_again(WORKER, Some(LOSS));
            died(&mut site, WORKER);
        }
        if target == Target::Server {
            site.kill(Target::Server);
        }
        site.start_again(target, Some(point));
        if needs_a_loss && target != WORKER {
            // That node alone can say what became of it.
            site.start_again(WORKER, None);
        }
        died(&mut site, target);
        site.start_again(target, None);
    }
    let settled = work.settle(&mut site);
    let jobs = settled.asked.entries.len();
    println!("{} points, {jobs} jobs, 0 lost, 0 twice, in {:.1} s", points.len(), began.elapsed().as_secs_f64());
    assert!(settled.wrong.is_empty(), "{} wrong:\n{}", settled.wrong.len(), settled.wrong.join("\n"));
}
