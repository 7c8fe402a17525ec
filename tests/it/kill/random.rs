//! 200 jobs, 50 kills at random moments.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::{Semaphore, watch};

use super::home::REPOSITORIES;
use super::life::Life;
use super::mounter::Mounter;
use super::work::{Kind, Planned, submit_all};
use super::world::World;

const JOBS: usize = 200;
const KILLS: usize = 50;
/// Every so many kills the independent client looks as well.
const MOUNT_EVERY: usize = 10;
/// One life in so many is killed before it is ready.
const EARLY_ONE_IN: u32 = 6;
/// How long lives last.
const LIFE_MS: std::ops::Range<u64> = 50..900;
/// Submissions that the first life gets on top of its share, so that there is always something to do.
const HEAD_START: usize = 8;
/// Every so many jobs are scripts, every so many of them removals.
const SCRIPT_EVERY: usize = 5;
const DELETE_EVERY: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_kills_lose_nothing_and_publish_nothing_twice() {
    let seed = std::env::var("CONVEYOR_KILL_SEED").map_or_else(|_| rand::random(), |text| text.parse().unwrap());
    println!("CONVEYOR_KILL_SEED={seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let started = Instant::now();
    let mounter = Mounter::find("random_kills_lose_nothing_and_publish_nothing_twice");
    let mut world = World::seeded(JOBS / DELETE_EVERY / REPOSITORIES.len()).await;

    let jobs: Vec<_> = (0..JOBS).map(|number| Planned::new(number, kind(number))).collect();
    world.entries.extend(jobs.iter().map(|job| job.entry.clone()));
    let (living, receiver) = watch::channel(None);
    let (pace, accepted) = (Arc::new(Semaphore::new(HEAD_START)), Arc::new(AtomicUsize::new(0)));
    let submitting = tokio::spawn({
        let (pace, accepted) = (Arc::clone(&pace), Arc::clone(&accepted));
        async move { submit_all(&jobs, &receiver, &pace, &accepted).await }
    });

    for kill in 0..KILLS {
        pace.add_permits((JOBS - HEAD_START) / KILLS);
        let moment = Duration::from_millis(random.random_range(LIFE_MS));
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
        if let Some(mounter) = mounter.as_ref().filter(|_| kill % MOUNT_EVERY == 0) {
            let repository = REPOSITORIES[kill / MOUNT_EVERY % REPOSITORIES.len()];
            let mounted = mounter.check(&world.home, repository, &world.any_file(repository)).await;
            assert_eq!(mounted, Ok(()), "seed {seed}, after kill {kill}");
        }
    }
    let published = world.revisions() - 2 * REPOSITORIES.len();
    let in_time = accepted.load(Ordering::SeqCst);
    println!(
        "after {KILLS} kills and {:.1} s: {in_time} accepted, {published} published",
        started.elapsed().as_secs_f64()
    );
    assert!(published < JOBS, "seed {seed}: nothing was left to do at the last kill");
    assert!(published > JOBS / 10, "seed {seed}: hardly anything was done between the kills");

    pace.add_permits(JOBS);
    let mut life = Life::start(&world.home, None);
    let client = life.ready(&world.home).await.expect("it does not start again");
    living.send_replace(Some(client.clone()));
    submitting.await.unwrap();
    assert_eq!(accepted.load(Ordering::SeqCst), JOBS);
    let settled = world.settle(life, &client).await;
    assert_eq!(settled, Ok(()), "seed {seed}\n{}", world.home.log_end());
    println!("{JOBS} jobs, {KILLS} kills, 0 lost, 0 twice, in {:.1} s", started.elapsed().as_secs_f64());
}

fn kind(number: usize) -> Kind {
    // Both repositories get some of each.
    let pair = number / REPOSITORIES.len();
    match pair {
        _ if pair % DELETE_EVERY == 3 => Kind::Delete(pair / DELETE_EVERY),
        _ if pair % SCRIPT_EVERY == 1 => Kind::Script,
        _ => Kind::Tarball,
    }
}
