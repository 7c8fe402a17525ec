//! What the Go program of this name did wrong, each with the tests that show that this one does not. Those that no other
//! part of the suite has anyway are here.
//!
//! | | its defect | tests |
//! |---|---|---|
//! | 1 | a server that lost its broker never came back, answered `null`, and had finished jobs run again, a thousand times | `the_broker_is_restarted_stopped_and_killed`, `connections_cut_at_any_moment_lose_nothing_and_double_nothing` |
//! | 2 | a job submitted before anybody had declared the queue was confirmed and dropped | `a_job_that_comes_before_every_queue_and_worker_is_kept`, `a_queue_deleted_by_hand_is_declared_anew` |
//! | 3 | a dependency on an unknown or lost job was waited for by the worker, in whose way all others stood, for ever; each wait left a consumer behind | `a_dependency_that_nobody_knows_is_refused_and_one_that_waits_holds_up_nobody` |
//! | 4 | a message that is no JSON wedged a worker, and after its restart the next one | `what_is_no_offer_ends_as_a_dead_letter_and_an_offer_twice_changes_nothing` |
//! | 5 | each worker's queue of results was filled and never read | `nothing_is_left_on_the_broker_by_jobs_that_have_ended` |
//! | 6 | a download's HTTP status was not looked at: the page that says 404 was run as the script | `a_download_that_goes_wrong_fails_its_job_with_the_reason` |
//! | 7 | a lease path that climbs opened another repository, `-h` was an option, no repository was one, a URL's path led out of the temporary directory | `a_job_that_makes_no_sense_is_refused_with_its_reason`, `a_urls_path_leads_nowhere` |
//! | 8 | a job that succeeded at its second attempt kept the first one's error | `a_success_after_a_failure_is_nothing_but_a_success` |
//! | 9 | a crash between publish and acknowledgement published again; SIGTERM left the transaction open | `a_process_that_dies_at_any_named_point_loses_nothing_and_publishes_nothing_twice`, `a_process_of_a_fleet_that_dies_at_any_named_point_loses_nothing_and_publishes_nothing_twice`, `a_worker_that_is_told_to_stop_leaves_nothing_open` |
//! | 10 | a job longer than the broker's patience with a consumer was run by a second worker beside the first | `a_job_that_outlasts_the_brokers_patience_runs_once` |
//! | 11 | the time limit of waiting began anew with each event | `waiting_has_an_end_however_much_happens`, `waiting_ends_with_its_limit` |
//! | 12 | whoever could submit could report results; nobody could cancel, list or see logs and figures | `every_route_lets_in_the_roles_that_it_should_and_no_other`, `only_the_holder_of_a_claim_is_believed`, `a_running_script_is_cancelled_and_nothing_of_it_is_published`, `a_listing_shows_what_was_asked_for_newest_first`, `a_log_is_followed_to_the_end_of_its_job`, `a_wrong_password_is_said_and_never_shown_and_jobs_are_accepted` |
//! | 13 | services without an orderly end, that start over whatever is wrong | `a_worker_that_is_told_to_stop_leaves_nothing_open`, `a_wrong_configuration_ends_with_78` |

mod broker;
mod jobs;

#[test]
fn every_defect_has_tests_that_exist() {
    let table = include_str!("mod.rs");
    let rows: Vec<_> = table.lines().filter_map(|line| line.strip_prefix("//! | ")).collect();
    let numbers: Vec<usize> = rows.iter().filter_map(|row| row.split(' ').next()?.parse().ok()).collect();
    assert_eq!(numbers, (1..=13).collect::<Vec<_>>());
    for row in rows.iter().skip(1) {
        crate::tidy::assert_names_tests(row, row.rsplit('|').nth(1).unwrap());
    }
}
