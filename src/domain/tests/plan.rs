use proptest::prelude::*;

use super::job_id;
use crate::domain::names::LeasePath;
use crate::domain::plan::{Action, ReadyJob, RepositoryView, View, plan};

fn repository() -> impl Strategy<Value = (Vec<LeasePath>, Vec<ReadyJob>)> {
    let path =
        || prop_oneof!["/", "/a", "/A/b", "/rel-1", "/rel-10"].prop_map(|path: String| LeasePath::new(&path).unwrap());
    let ready = (any::<u8>(), path(), 1u32..5).prop_map(|(id, lease_path, next_attempt)| ReadyJob {
        id: job_id(id),
        lease_path,
        next_attempt,
    });
    let reserved = prop_oneof![3 => Just(vec![]), 1 => proptest::collection::vec(path(), 1..3)];
    (reserved, proptest::collection::vec(ready, 0..4))
}

fn view() -> impl Strategy<Value = View> {
    (proptest::collection::vec(repository(), 0..6), 0usize..6).prop_map(|(repositories, credit)| View {
        repositories: (0..)
            .zip(repositories)
            .map(|(number, (reserved, ready))| RepositoryView {
                name: format!("r{number}.example.org").parse().unwrap(),
                reserved,
                ready,
            })
            .collect(),
        credit,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_plan_is_deterministic_and_within_the_credit(view in view()) {
        let actions = plan(&view);
        prop_assert_eq!(&actions, &plan(&view));
        let possible = view.repositories.iter().filter(|r| r.reserved.is_empty() && !r.ready.is_empty()).count();
        prop_assert_eq!(actions.len(), possible.min(view.credit), "all that can go goes, and no more");
    }

    #[test]
    fn a_plan_never_reserves_what_overlaps_and_takes_the_best_job(view in view()) {
        let mut live: Vec<(String, LeasePath)> = view
            .repositories
            .iter()
            .flat_map(|r| r.reserved.iter().map(|path| (r.name.to_string(), path.clone())))
            .collect();
        for Action::Offer { repository, lease_path, jobs } in plan(&view) {
            let seen = view.repositories.iter().find(|r| r.name == repository).unwrap();
            prop_assert!(live.iter().all(|(other, path)| *other != repository.as_str() || !path.overlaps(&lease_path)));
            prop_assert!(live.iter().all(|(other, _)| *other != repository.as_str()), "one batch for each repository");
            prop_assert_eq!(jobs, vec![(seen.ready[0].id, seen.ready[0].next_attempt)]);
            prop_assert_eq!(&lease_path, &seen.ready[0].lease_path);
            live.push((repository.to_string(), lease_path));
        }
    }
}

#[test]
fn repositories_are_served_in_the_order_of_the_view() {
    let ready = |id| vec![ReadyJob { id: job_id(id), lease_path: LeasePath::root(), next_attempt: 1 }];
    let repository =
        |name: &str, id| RepositoryView { name: name.parse().unwrap(), reserved: vec![], ready: ready(id) };
    let view = View { repositories: vec![repository("z.org", 1), repository("a.org", 2)], credit: 1 };
    let Action::Offer { repository, .. } = &plan(&view)[0];
    assert_eq!(repository.as_str(), "z.org");
}
