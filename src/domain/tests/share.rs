use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::domain::share::{PLACES_PER_PRIORITY, Pending, Shares};

/// Serves a queue to its end; what comes is told by rank.
fn serve(shares: &mut Shares, mut queue: Vec<(i64, &'static str)>) -> Vec<&'static str> {
    queue.sort_by_key(|(rank, _)| *rank);
    queue
        .into_iter()
        .map(|(rank, who)| {
            shares.served(rank, 0);
            who
        })
        .collect()
}

#[test]
fn whoever_has_few_jobs_goes_between_those_of_who_has_many() {
    let mut shares = Shares::default();
    let mut queue: Vec<_> = (0..1000).map(|_| (shares.rank("many", 0), "many")).collect();
    queue.sort_unstable();
    let (served, waiting) = queue.split_at(500);
    serve(&mut shares, served.to_vec());
    let few: Vec<_> = (0..10).map(|_| (shares.rank("few", 0), "few")).collect();
    let order = serve(&mut shares, [waiting, &few].concat());
    assert!(order[..20].iter().filter(|who| **who == "few").count() >= 9, "{:?}", &order[..20]);
}

#[test]
fn priority_is_a_lead_and_not_a_right_for_ever() {
    let mut shares = Shares::default();
    let low = shares.rank("a", 0);
    assert!(shares.rank("b", 1) < low);
    // However many urgent ones come, one after the other is served: in the end the old one is first.
    let overtaken = (0..).take_while(|_| {
        let rank = shares.rank("b", 5);
        shares.served(rank, 5);
        rank < low
    });
    assert!((1..=5 * PLACES_PER_PRIORITY).contains(&(overtaken.count() as i64)));
}

#[test]
fn what_is_withdrawn_costs_its_submitter_no_place() {
    let mut shares = Shares::default();
    let ranks: Vec<i64> = (0..1000).map(|_| shares.rank("a", 0)).collect();
    for rank in ranks {
        shares.withdrawn("a", rank, 0);
    }
    assert_eq!(shares.rank("a", 0), shares.rank("b", 0));
}

#[test]
fn what_comes_after_something_was_withdrawn_overtakes_nothing() {
    let mut shares = Shares::default();
    let ranks: Vec<i64> = (0..4).map(|_| shares.rank("a", 0)).collect();
    shares.withdrawn("a", ranks[0], 0);
    shares.withdrawn("a", ranks[1], 0);
    assert!(shares.rank("a", 0) > ranks[3]);
}

#[test]
fn a_restart_keeps_the_order() {
    let pending = |who: &str, first_queued, last| Pending { submitter: who.into(), first_queued, last };
    let mut shares = Shares::restored([pending("a", Some(501), 1000), pending("b", None, 300)]);
    assert_eq!(shares.rank("a", 0), 1001, "behind its own");
    assert_eq!(shares.rank("new", 0), 501, "beside the first of those that wait");
    let mut idle = Shares::restored([pending("a", None, 70)]);
    assert_eq!(idle.rank("new", 0), 71, "behind what comes back");
    assert_eq!(Shares::restored([]), Shares::default());
}

proptest! {
    /// Jobs that come and go at random: everybody's own stay in order, and while two submitters both wait, neither is served
    /// more than twice in a row.
    #[test]
    fn shares_are_equal_and_order_is_kept(steps in proptest::collection::vec((0usize..3, 1usize..20, 0usize..30), 1..40)) {
        let names = ["a", "b", "c"];
        let (mut shares, mut queue) = (Shares::default(), BTreeMap::new());
        let mut number = 0;
        let mut last_of = [0; 3];
        let mut in_a_row = (3, 0);
        for (who, come, go) in steps {
            for _ in 0..come {
                number += 1;
                queue.insert((shares.rank(names[who], 0), number), who);
            }
            for _ in 0..go {
                let Some(((rank, number), who)) = queue.pop_first() else { break };
                shares.served(rank, 0);
                prop_assert!(number > last_of[who], "a submitter's jobs go in their order");
                last_of[who] = number;
                in_a_row = if in_a_row.0 == who && queue.values().any(|other| *other != who) { (who, in_a_row.1 + 1) } else { (who, 1) };
                prop_assert!(in_a_row.1 <= 2, "{who} is served {} times while others wait", in_a_row.1);
            }
        }
    }
}
