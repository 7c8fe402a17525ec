//! Jobs published by server and worker processes through `cvmfs_server`: each scenario on the stand-ins and, where they are
//! installed, on the real `cvmfs_server`, gateway and receiver. What was published is counted outside of Conveyor: by the
//! tags of batches in the history and the revisions they name.

mod faults;
mod gateway;
mod jobs;
mod kills;
mod node;

use crate::site::Setup;

/// Makes tests of scenarios, for each kind of site that they are about.
macro_rules! scenarios {
    (anywhere: $($anywhere:ident),*; gateway: $($gateway:ident),*;) => {
        mod standin {
            use super::*;
            $(#[test] fn $anywhere() { super::$anywhere(Setup { real: false, gateway: false }); })*
        }
        mod standin_gateway {
            use super::*;
            $(#[test] fn $anywhere() { super::$anywhere(Setup { real: false, gateway: true }); })*
            $(#[test] fn $gateway() { super::$gateway(Setup { real: false, gateway: true }); })*
        }
        mod real_cvmfs {
            use super::*;
            $(#[test] fn $anywhere() { super::$anywhere(Setup { real: true, gateway: false }); })*
        }
        mod real_cvmfs_gateway {
            use super::*;
            $(#[test] fn $anywhere() { super::$anywhere(Setup { real: true, gateway: true }); })*
            $(#[test] fn $gateway() { super::$gateway(Setup { real: true, gateway: true }); })*
        }
    };
}

use faults::*;
use gateway::*;
use jobs::*;
use kills::*;

scenarios! {
    anywhere:
        a_job_is_published_and_read_by_clients,
        several_jobs_share_a_publish_and_one_that_fails_costs_the_others_nothing,
        what_a_user_writes_is_never_run,
        what_a_script_leaves_behind_holds_up_nobody,
        a_job_that_changes_nothing_makes_no_revision,
        many_small_jobs_are_published_once_each,
        a_persons_transaction_is_waited_for_and_never_touched,
        a_worker_killed_at_any_point_publishes_once,
        a_worker_or_publish_killed_at_any_moment_publishes_once,
        a_publish_that_stands_still_while_its_worker_dies_is_made_once,
        a_lock_that_a_killed_publish_left_to_a_mount_holds_up_nobody,
        who_keeps_the_mounts_elsewhere_is_named_and_waited_for,
        a_web_server_that_is_down_is_waited_for,
        an_expired_whitelist_is_waited_for_and_publishes_nothing;
    gateway:
        a_gateway_that_is_down_is_waited_for,
        a_payload_that_does_not_arrive_is_sent_again,
        a_commit_that_does_not_arrive_is_made_once,
        a_commit_whose_answer_is_lost_is_made_once,
        a_gateway_started_anew_before_the_commit_is_asked_again,
        a_lease_that_expired_before_the_payload_is_taken_again,
        two_workers_of_one_node_publish_everything_once;
}

#[test]
fn two_publishers_of_one_gateway_publish_everything_once() {
    gateway::two_publishers_of_one_gateway(Setup { real: false, gateway: true });
}

#[test]
fn a_full_spool_is_waited_for() {
    faults::a_full_spool_is_waited_for(Setup { real: false, gateway: false });
}

#[test]
fn a_publish_that_hangs_after_its_revision_is_there_is_ended_and_counted() {
    faults::a_remount_that_hangs(Setup { real: false, gateway: false });
}

#[test]
fn a_success_without_a_revision_is_not_tried_again() {
    faults::a_success_without_a_revision(Setup { real: false, gateway: false });
}
