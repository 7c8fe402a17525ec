//! 200 jobs or more, 50 kills at random moments. The faster the machine, the more jobs: work must never run out before
//! the last kill.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::{Semaphore, watch};

use super::home::REPOSITORIES;
use super::life::Life;
use super::mounter::Mounter;
use super::work::{Planned, submit_all};
use super::world::World;
use crate::harness::PATIENCE;

/// At least so many jobs, and at most.
const JOBS: std::ops::RangeInclusive<usize> = 200..=2000;
const KILLS: usize = 50;
/// Every so many kills the independent client looks as well.
const MOUNT_EVERY: usize = 10;
/// One life in so many is killed before it is ready.
const EARLY_ONE_IN: u32 = 6;
/// How long lives last, and by how much more at most where too little was done in those before: on a machine that is slow or
/// busy.
const LIFE_MS: std::ops::Range<u64> = 20..500;
const LONGER_MOST: u32 = 8;
/// Jobs that each life has to do.
const BACKLOG: usize = 40;
/// Files to remove in each repository.
const SEEDS: usize = 30;
/// Every so many jobs are scripts, every so many of them removals.
const SCRIPT_EVERY: usize = 5;
const DELETE_EVERY: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_kills_lose_nothing_and_publish_nothing_twice() {
    let seed = std::env::var("CONVEYOR_KILL_SEED").map_or_else(|_| rand::random(), |text| text.parse().unwrap());
    println!("CONVEYOR_KILL_SEED={seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let started = Instant::now();
    let mounter = Mounter::find();
    let mut world = World::seeded(SEEDS).await;

    let (before, undone) = (world.revisions(), world.changes());
    let jobs: Vec<_> = (0..*JOBS.end()).map(planned).collect();
    let entries: Vec<_> = jobs.iter().map(|job| job.entry.clone()).collect();
    let (living, receiver) = watch::channel(None);
    let (pace, accepted) = (Arc::new(Semaphore::new(BACKLOG)), Arc::new(AtomicUsize::new(0)));
    let submitting = tokio::spawn({
        let (pace, accepted) = (Arc::clone(&pace), Arc::clone(&accepted));
        async move { submit_all(&jobs, &receiver, &pace, &accepted).await }
    });
    let mut allowed = BACKLOG;
    let mut allow = |wanted: usize| {
        let more = wanted.min(*JOBS.end()).saturating_sub(allowed);
        allowed += more;
        pace.add_permits(more);
    };

    let (mut at_work, mut longer) = (0, 1);
    for kill in 0..KILLS {
        let moment = Duration::from_millis(random.random_range(LIFE_MS)) * longer;
        let early = random.random_ratio(1, EARLY_ONE_IN);
        let mut life = Life::start(&world.home, None);
        if !early {
            let client = life.ready(&world.home).await;
            assert!(client.is_some(), "seed {seed}: it died by itself\n{}", world.home.log_end());
            living.send_replace(client);
        }
        // The moment itself is what is random here.
        tokio::time::sleep(moment).await;
        life.kill9().await;
        living.send_replace(None);
        let whole = world.look();
        assert_eq!(whole, Ok(()), "seed {seed}, after kill {kill}\n{}", world.home.log_end());
        let (published, done) = (world.revisions() - before, world.changes() - undone);
        at_work += usize::from(accepted.load(Ordering::SeqCst) > done);
        // Somewhat more than is wanted in the end.
        longer = if published > kill + KILLS / 5 { 1 } else { LONGER_MOST.min(longer * 2) };
        allow(done + BACKLOG);
        if let Some(mounter) = mounter.filter(|_| kill % MOUNT_EVERY == 0) {
            let repository = REPOSITORIES[kill / MOUNT_EVERY % REPOSITORIES.len()];
            let mounted = mounter.check(&world.home, repository, &world.any_file(repository)).await;
            assert_eq!(mounted, Ok(()), "seed {seed}, after kill {kill}");
        }
    }
    let (published, done) = (world.revisions() - before, world.changes() - undone);
    let in_time = accepted.load(Ordering::SeqCst);
    println!(
        "after {KILLS} kills and {:.1} s: {in_time} accepted, {done} done in {published} revisions, {at_work} kills at work",
        started.elapsed().as_secs_f64()
    );
    assert!(at_work > KILLS * 3 / 4 && done < *JOBS.end(), "seed {seed}: kills met nobody at work");
    assert!(published > KILLS, "seed {seed}: hardly anything was done between the kills");

    allow(*JOBS.start());
    let mut life = Life::start(&world.home, None);
    let client = life.ready(&world.home).await.expect("it does not start again");
    living.send_replace(Some(client.clone()));
    pace_out(&pace).await;
    pace.close();
    submitting.await.unwrap();
    let jobs = accepted.load(Ordering::SeqCst);
    assert!(jobs >= *JOBS.start());
    world.entries.extend(entries.into_iter().take(jobs));
    let settled = world.settle(life, &client).await;
    assert_eq!(settled, Ok(()), "seed {seed}\n{}", world.home.log_end());
    println!("{jobs} jobs, {KILLS} kills, 0 lost, 0 twice, in {:.1} s", started.elapsed().as_secs_f64());
}

/// Waits until every leave is taken: closing would take it back.
async fn pace_out(pace: &Semaphore) {
    let waiting = async {
        while pace.available_permits() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("jobs are not accepted");
}

fn planned(number: usize) -> Planned {
    // Both repositories get some of each.
    let (pair, repository) = (number / REPOSITORIES.len(), REPOSITORIES[number % REPOSITORIES.len()]);
    match pair {
        _ if pair % DELETE_EVERY == 3 && pair / DELETE_EVERY < SEEDS => {
            Planned::delete(repository, "/seeds", &format!("seeds/{}", pair / DELETE_EVERY))
        }
        _ if pair % SCRIPT_EVERY == 1 => Planned::script(repository, "/scripts"),
        _ => Planned::tarball(repository, "/tarballs"),
    }
}
