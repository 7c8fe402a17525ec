use proptest::prelude::*;

use super::job_id;
use crate::domain::fleet::RepositoryRules;
use crate::domain::names::LeasePath;
use crate::domain::plan::{Action, BatchLimits, ReadyJob, RepositoryView, Unclaimed, View, plan, top_up};

fn path(text: &str) -> LeasePath {
    LeasePath::new(text).unwrap()
}

/// A job that is ready; its number is its rank.
fn ready(number: u8, lease_path: &str) -> ReadyJob {
    ReadyJob {
        id: job_id(number),
        rank: i64::from(number),
        lease_path: path(lease_path),
        next_attempt: 1,
        together: usize::MAX,
        bytes: 0,
    }
}

fn repository(name: &str, rules: RepositoryRules, reserved: &[&str], ready: Vec<ReadyJob>) -> RepositoryView {
    let reserved = reserved.iter().map(|text| path(text)).collect();
    RepositoryView { name: format!("{name}.example.org").parse().unwrap(), rules, reserved, ready }
}

fn gateway(batch_root: Option<&str>) -> RepositoryRules {
    RepositoryRules { gateway: true, batch_root: batch_root.map(path), ..RepositoryRules::default() }
}

/// What is planned with so much credit: for each batch its lease path and the ranks of its jobs.
fn planned(repositories: Vec<RepositoryView>, credit: usize) -> Vec<(String, Vec<i64>)> {
    let view = View { repositories, credit, limits: BatchLimits::default() };
    plan(&view)
        .into_iter()
        .map(|Action::Offer { lease_path, jobs, .. }| {
            (lease_path.to_string(), jobs.iter().map(|job| job.rank).collect())
        })
        .collect()
}

fn of(lease_path: &str, ranks: &[i64]) -> (String, Vec<i64>) {
    (lease_path.into(), ranks.to_vec())
}

#[test]
fn without_a_gateway_all_that_is_ready_is_one_batch_below_its_common_parent() {
    let rules = RepositoryRules::default;
    let jobs = || vec![ready(1, "/a/x"), ready(2, "/a/y"), ready(3, "/a/x/z")];
    assert_eq!(planned(vec![repository("r", rules(), &[], jobs())], 9), [of("/a", &[1, 2, 3])]);
    assert_eq!(planned(vec![repository("r", rules(), &["/q"], jobs())], 9), []);
    assert_eq!(planned(vec![repository("r", rules(), &[], jobs())], 0), []);
}

#[test]
fn the_repository_whose_job_comes_first_is_served_first() {
    let late = repository("a", RepositoryRules::default(), &[], vec![ready(5, "/late")]);
    let early = repository("b", RepositoryRules::default(), &[], vec![ready(2, "/early"), ready(9, "/early")]);
    assert_eq!(planned(vec![late.clone(), early.clone()], 1), [of("/early", &[2, 9])]);
    assert_eq!(planned(vec![late, early], 2), [of("/early", &[2, 9]), of("/late", &[5])]);
}

#[test]
fn a_batch_is_no_larger_than_its_limits_and_than_each_of_its_jobs_may_be_together() {
    let jobs = |together: &[usize]| -> Vec<ReadyJob> {
        (1..)
            .zip(together)
            .map(|(number, together)| ReadyJob { together: *together, bytes: 10, ..ready(number, "/a") })
            .collect()
    };
    let sizes = |together: &[usize], limits| -> Vec<usize> {
        let view = View {
            repositories: vec![repository("r", RepositoryRules::default(), &[], jobs(together))],
            credit: 1,
            limits,
        };
        plan(&view).iter().map(|Action::Offer { jobs, .. }| jobs.len()).collect()
    };
    let free = BatchLimits { jobs: 100, bytes: u64::MAX };
    assert_eq!(sizes(&[9, 9, 9], free), [3]);
    assert_eq!(sizes(&[1, 9, 9], free), [1], "who must be alone is");
    assert_eq!(sizes(&[9, 1, 9], free), [1], "and is not overtaken");
    assert_eq!(sizes(&[9, 2, 9], free), [2]);
    assert_eq!(sizes(&[9, 9, 9], BatchLimits { jobs: 2, ..free }), [2]);
    assert_eq!(sizes(&[9, 9, 9], BatchLimits { bytes: 25, ..free }), [2]);
    assert_eq!(sizes(&[9, 9, 9], BatchLimits { bytes: 5, ..free }), [1], "a single one may be larger");
}

#[test]
fn with_a_gateway_disjoint_paths_go_beside_each_other_and_nobody_is_overtaken_on_his_own() {
    let plan = |reserved: &[&str], root, jobs| planned(vec![repository("r", gateway(root), reserved, jobs)], 9);
    assert_eq!(
        plan(&[], None, vec![ready(1, "/a"), ready(2, "/b"), ready(3, "/a/x")]),
        [of("/a", &[1, 3]), of("/b", &[2])]
    );
    assert_eq!(
        plan(&["/rel-1"], None, vec![ready(1, "/REL-10"), ready(2, "/b")]),
        [of("/b", &[2])],
        "as the gateway compares"
    );
    assert_eq!(
        plan(&["/a/b"], None, vec![ready(1, "/a"), ready(2, "/a/c"), ready(3, "/d")]),
        [of("/d", &[3])],
        "/a waits, and /a/c behind it"
    );
    assert_eq!(
        plan(&[], None, vec![ready(1, "/a"), ready(2, "/"), ready(3, "/a")]),
        [of("/a", &[1])],
        "the third is behind the second"
    );
    assert_eq!(
        plan(&[], Some("/sw"), vec![ready(1, "/sw/a"), ready(2, "/sw/b"), ready(3, "/x")]),
        [of("/sw", &[1, 2]), of("/x", &[3])]
    );
    assert_eq!(
        plan(&["/sw/c"], Some("/sw"), vec![ready(1, "/sw/a"), ready(2, "/sw/b")]),
        [of("/sw/a", &[1]), of("/sw/b", &[2])],
        "the root is not free"
    );
}

#[test]
fn a_batch_that_nobody_has_begun_takes_in_what_came_since() {
    let unclaimed = |jobs, together| Unclaimed { jobs, together, bytes: 0, lease_path: path("/a/x") };
    let came = vec![ready(5, "/a/x/1"), ready(6, "/a/y"), ready(7, "/a/x")];
    let top = |batch, rules: RepositoryRules| {
        let (added, lease_path) = top_up(batch, &came, &rules, BatchLimits { jobs: 3, bytes: 99 });
        (lease_path.to_string(), added.iter().map(|job| job.rank).collect())
    };
    assert_eq!(top(unclaimed(1, 9), RepositoryRules::default()), of("/a", &[5, 6]));
    assert_eq!(top(unclaimed(3, 9), RepositoryRules::default()), of("/a/x", &[]));
    assert_eq!(top(unclaimed(1, 1), RepositoryRules::default()), of("/a/x", &[]), "one that must be alone");
    assert_eq!(top(unclaimed(1, 9), gateway(None)), of("/a/x", &[5, 7]), "its lease is what it is");
}

fn any_view() -> impl Strategy<Value = View> {
    let any_path =
        || prop_oneof!["/", "/a", "/A/b", "/a/c", "/rel-1", "/rel-10", "/rel_1/x"].prop_map(|text: String| path(&text));
    let job = (any_path(), 1u32..5, prop_oneof![3 => Just(usize::MAX), 1 => 1usize..4], 0u64..9);
    let jobs = proptest::collection::vec(job, 0..8);
    let reserved = prop_oneof![3 => Just(vec![]), 1 => proptest::collection::vec(any_path(), 1..3)];
    let rules = (any::<bool>(), prop_oneof![Just(None), Just(Some("/a"))]);
    let repositories = proptest::collection::vec((rules, reserved, jobs), 0..6);
    (repositories, 0usize..6, 1usize..5, 5u64..20).prop_map(|(repositories, credit, jobs, bytes)| {
        let mut number = 0;
        let repositories = (0..).zip(repositories).map(|(at, ((is_gateway, root), reserved, jobs))| {
            let jobs = jobs.into_iter().map(|(lease_path, next_attempt, together, bytes)| {
                number += 1;
                ReadyJob { next_attempt, together, bytes, lease_path, ..ready(number, "/") }
            });
            let rules = if is_gateway { gateway(root) } else { RepositoryRules::default() };
            RepositoryView { reserved, ..repository(&format!("r{at}"), rules, &[], jobs.collect()) }
        });
        View { repositories: repositories.collect(), credit, limits: BatchLimits { jobs, bytes } }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_plan_keeps_the_rules(view in any_view()) {
        let actions = plan(&view);
        prop_assert_eq!(&actions, &plan(&view));
        prop_assert!(actions.len() <= view.credit);
        let mut taken = Vec::new();
        for repository in &view.repositories {
            let ours: Vec<_> = actions.iter().filter(|Action::Offer { repository: of, .. }| *of == repository.name).collect();
            let mut live = repository.reserved.clone();
            prop_assert!(repository.rules.gateway || ours.len() + live.len() <= 1.max(live.len()), "one batch without a gateway");
            for Action::Offer { lease_path, jobs, .. } in ours {
                prop_assert!(live.iter().all(|path| !path.overlaps(lease_path)), "{lease_path} is taken");
                live.push(lease_path.clone());
                prop_assert!(!jobs.is_empty() && jobs.len() <= view.limits.jobs);
                prop_assert!(jobs.iter().all(|job| jobs.len() <= job.together && lease_path.contains(&job.lease_path)));
                prop_assert!(jobs.len() == 1 || jobs.iter().map(|job| job.bytes).sum::<u64>() <= view.limits.bytes);
                prop_assert!(jobs.is_sorted_by_key(|job| job.rank));
                let may_widen = !repository.rules.gateway || repository.rules.batch_root.is_some();
                prop_assert!(may_widen || *lease_path == jobs[0].lease_path);
                taken.extend(jobs.iter().map(|job| job.id));
            }
            // Nobody is overtaken on a path that overlaps his own.
            for (place, job) in repository.ready.iter().enumerate().filter(|(_, job)| !taken.contains(&job.id)) {
                let overtaker = repository.ready[place..].iter().find(|later| taken.contains(&later.id) && later.lease_path.overlaps(&job.lease_path));
                prop_assert!(overtaker.is_none(), "{job:?} is overtaken by {overtaker:?}");
            }
        }
        let mut once = taken.clone();
        once.sort_unstable();
        once.dedup();
        prop_assert_eq!(once.len(), taken.len(), "no job is in two batches");
        let idle = view.repositories.iter().filter(|r| r.reserved.is_empty() && !r.ready.is_empty()).count();
        prop_assert!(actions.len() >= idle.min(view.credit), "what can go goes");
    }
}
