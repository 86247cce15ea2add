//! What every store must do: one clause of the contract of [`crate::store::JobStore`], one test.
//!
//! A store's crate writes `jobs_core::conformance_suite!(name, factory)` and has them all. The clauses know nothing of any
//! store: they enqueue, claim and settle by a clock of their own, and look at the answers. What a clause forgets, the
//! [`differential`] test may find: it plays long random scripts on the store and on [`crate::memory::State`].

pub mod callbacks;
pub mod claim;
pub mod differential;
pub mod durable;
pub mod enqueue;
pub mod keys;
pub mod late;
pub mod lease;
pub mod operators;
pub mod ordering;
pub mod reading;
pub mod retention;
pub mod rig;
pub mod script;
pub mod settle;
pub mod steering;

use std::future::Future;
use std::sync::Arc;

pub use self::differential::differential;
pub use self::rig::TestJudge;
use crate::job::JobId;
use crate::store::JobStore;
use crate::time::Now;

/// A kind of store, with a place of its own to keep one.
pub trait StoreUnderTest: Send + Sync {
    /// Whether what was stored is there again when it is opened after a close.
    const DURABLE: bool;

    /// Opens the store: empty the first time, later, if durable, as it was closed. `now` is when: leases it finds get a full
    /// term from then.
    fn open(&self, now: Now) -> impl Future<Output = Arc<dyn JobStore>> + Send;

    /// Spoils the stored request of a job as a failing disk would, so that its checksum fails; answers whether it could.
    /// Called while a durable store is closed, and while any other is open.
    fn rot(&self, _id: JobId) -> impl Future<Output = bool> + Send {
        async { false }
    }
}

/// `conformance_suite!(name, factory)`: a module `name` with a test for each clause. `factory` makes a [`StoreUnderTest`] and
/// is evaluated afresh in every test.
#[macro_export]
macro_rules! conformance_suite {
    ($name:ident, $factory:expr) => {
        mod $name {
            #[allow(unused_imports, reason = "the factory may be named by its whole path")]
            use super::*;

            $crate::conformance_suite! { @themes $factory;
                enqueue {
                    jobs_are_numbered_in_the_order_of_their_acceptance,
                    an_accepted_job_waits_untried_for_its_time,
                    a_run_at_in_the_past_means_now,
                    an_empty_batch_is_accepted,
                    every_option_of_a_job_is_kept,
                    a_request_is_kept_byte_for_byte,
                    a_new_id_ends_in_its_jobs_number_and_a_given_one_stays,
                    a_known_job_id_is_refused_with_its_whole_batch,
                }
                keys {
                    a_repeated_request_answers_with_the_first_job,
                    a_replay_tells_the_present_state,
                    a_key_with_another_request_is_refused,
                    a_key_may_come_again_within_one_batch,
                    two_clients_may_use_the_same_key,
                    a_key_stays_bound_over_a_redrive,
                    a_key_outlives_its_job_and_tells_how_that_ended,
                    a_key_that_has_outlived_its_time_is_free_again,
                    a_key_lives_as_long_as_its_job_whatever_the_retention,
                }
                claim {
                    priority_goes_first_then_the_earlier_time_then_the_earlier_acceptance,
                    a_job_is_not_claimed_before_its_time,
                    a_recovery_releases_what_its_outage_made_wait,
                    a_recovery_does_not_release_what_waits_on_its_own_account,
                    released_jobs_go_before_others_of_their_priority,
                    fresh_jobs_go_before_a_backlog_as_many_as_their_share,
                    a_share_for_the_fresh_is_no_more_than_the_grant,
                    fresh_is_what_was_accepted_and_due_of_late_tried_or_not,
                    a_probe_goes_to_what_has_waited_longest_for_one,
                    a_probe_on_a_healthy_check_may_take_what_the_present_outage_made_wait,
                    no_more_is_claimed_than_granted,
                    a_claim_ends_where_its_payloads_are_too_many,
                    what_is_out_of_time_takes_no_room_in_a_claim,
                    destinations_are_served_as_they_are_granted,
                    an_exhausted_destination_tells_when_its_next_job_falls_due,
                    what_has_run_out_of_time_is_no_next_job,
                    every_lease_has_an_epoch_above_all_before_it,
                    a_lease_says_whose_it_is_and_what_was_granted,
                    a_job_whose_time_has_run_out_is_not_leased,
                    a_rotten_request_is_dead_and_never_leased,
                    a_great_backlog_is_claimed_in_order_and_each_job_by_one_lease,
                    two_workers_at_once_never_hold_one_job,
                    a_claim_at_the_end_of_time_finds_what_is_due_then,
                    a_job_passed_over_as_late_is_found_again_when_the_clock_is_set_back,
                }
                lease {
                    a_lapsed_lease_can_be_claimed_again,
                    extending_renews_for_a_full_term,
                    a_lease_that_its_worker_does_not_list_lapses,
                    a_stale_epoch_or_another_worker_renews_nothing,
                    a_lease_that_has_ended_is_named_lost,
                    an_empty_heartbeat_renews_nothing,
                    from_the_second_lapse_on_a_job_backs_off,
                    a_job_that_lost_too_many_workers_is_dead_where_so_set,
                    a_lapse_is_an_unknown_outcome,
                    a_lapsed_job_that_is_out_of_time_is_dead_by_the_same_sweep,
                    after_a_stall_of_the_gateway_every_lease_gets_a_full_term,
                    live_leases_are_listed_with_their_holders,
                    a_great_many_leases_lapse_over_a_few_sweeps,
                    a_lease_in_the_list_of_a_sweep_has_ended,
                }
                settle {
                    an_ok_ends_the_job,
                    a_refusal_for_good_ends_the_job_and_keeps_the_answer,
                    a_failure_of_the_destination_makes_the_job_wait_uncharged,
                    charged_failures_are_bounded_by_the_job_or_else_its_destination,
                    the_evidence_at_the_settle_decides_the_charge,
                    a_second_suspect_answer_with_a_verdict_is_for_good,
                    a_released_job_waits_as_it_did_and_nothing_is_counted,
                    each_attempt_is_a_line_of_the_log,
                    the_last_answer_that_there_was_is_kept,
                    an_unknown_outcome_is_counted_where_it_is_repeated,
                    after_an_unknown_outcome_a_job_is_not_sent_when_its_key_is_forgotten,
                    a_failure_after_the_expiry_ends_the_job,
                    an_unwanted_job_ends_as_its_outcome_says,
                    a_batch_is_settled_in_its_order,
                    the_judge_weighs_each_attempt_of_a_known_job_one_time,
                }
                late {
                    repeating_a_whole_batch_changes_nothing,
                    repeating_an_old_batch_leaves_a_new_lease_alone,
                    a_failure_reported_after_the_lease_was_lost_changes_nothing,
                    a_failure_reported_after_the_end_changes_nothing,
                    an_invented_epoch_is_refused,
                    an_outcome_for_an_unknown_job_is_answered_so,
                    a_late_ok_counts_while_the_job_waits,
                    a_late_ok_counts_after_its_own_failure_was_settled,
                    a_late_ok_ends_the_lease_of_a_newer_holder,
                    a_late_ok_counts_after_another_end,
                    a_late_ok_of_an_earlier_generation_is_refused,
                }
                ordering {
                    jobs_of_a_key_go_one_at_a_time_in_the_order_of_acceptance,
                    keys_do_not_hinder_one_another,
                    a_job_accepted_behind_an_unfinished_one_waits_for_it,
                    a_job_that_waits_to_be_retried_blocks_its_key,
                    neither_time_nor_priority_overtakes_within_a_key,
                    every_end_frees_the_next,
                    an_expired_head_frees_the_next,
                    a_lapsed_or_released_head_stays_the_head,
                    the_end_of_a_job_behind_the_head_frees_nobody,
                    a_dead_head_blocks_where_its_destination_says_so,
                    every_way_to_die_blocks,
                    a_corrupt_head_blocks_where_its_destination_says_so,
                    a_late_ok_for_a_blocking_dead_head_frees_its_key,
                    what_a_dead_head_does_is_decided_when_it_dies,
                    a_redriven_job_comes_back_to_its_old_place,
                    a_redriven_head_that_blocked_is_tried_again,
                    a_lease_behind_a_redriven_head_is_left_to_finish,
                    a_purge_keeps_a_dead_head_that_blocks,
                }
                steering {
                    a_waiting_job_can_be_cancelled,
                    a_holder_learns_of_a_cancel_at_its_next_heartbeat,
                    a_lapsed_lease_of_a_job_nobody_wants_ends_it,
                    what_has_ended_cannot_be_cancelled,
                    an_unknown_job_cannot_be_steered,
                    a_redrive_begins_a_new_generation,
                    a_redrive_may_ask_for_a_new_key,
                    a_redrive_of_a_waiting_job_makes_it_due,
                    a_leased_or_succeeded_job_is_not_redriven,
                    a_waiting_job_past_its_expiry_is_dead_whatever_it_waits_for,
                    a_leased_job_does_not_expire,
                    a_great_many_jobs_expire_over_a_few_sweeps,
                    a_policy_that_is_spent_while_nobody_looks_is_noticed_at_the_next_failure,
                }
                retention {
                    finished_jobs_are_kept_as_long_as_their_state_says,
                    the_time_is_counted_from_the_end,
                    an_unfinished_job_is_never_purged,
                    a_redriven_job_is_kept,
                    with_a_job_goes_all_that_belongs_to_it,
                    a_great_many_jobs_are_purged_some_hundreds_at_a_time,
                }
                reading {
                    jobs_are_listed_latest_accepted_first,
                    a_page_begins_below_its_cursor,
                    a_job_accepted_between_two_pages_shifts_none,
                    a_list_can_be_filtered,
                    a_list_can_be_searched_for_text,
                    counters_follow_each_job_from_state_to_state,
                    the_oldest_due_is_the_earliest_of_all_that_wait,
                    gates_are_kept_as_last_written,
                    what_is_not_there_is_answered_so,
                }
                operators {
                    jobs_are_found_earliest_accepted_first,
                    each_condition_of_a_filter_holds,
                    a_resolved_job_stays_dead_and_counts_as_unresolved_no_more,
                    a_purge_forgets_what_was_resolved,
                    a_mass_redrive_is_kept_as_it_was_asked_for,
                    a_mass_redrive_changes_as_its_rules_say_and_keeps_that,
                    a_step_redrives_what_is_still_wanted_and_moves_on,
                    a_mass_redrive_counts_what_becomes_of_its_jobs_each_one_time,
                    the_audit_log_keeps_who_did_what,
                    a_closed_store_answers_so_to_operators,
                }
                callbacks {
                    the_end_of_a_job_makes_a_job_that_tells_of_it,
                    every_end_is_told_each_one_time,
                    a_notice_tells_once_that_a_job_is_still_being_tried,
                    a_replayed_request_makes_no_second_notice,
                }
                durable {
                    a_closed_store_answers_so_to_everything,
                    a_store_that_works_is_not_broken,
                    starts_and_epochs_rise_over_every_open,
                    everything_is_there_again_after_a_reopen,
                    keys_are_bound_over_a_reopen,
                    ordering_keys_hold_over_a_reopen,
                    leases_get_a_full_term_after_a_reopen,
                    a_holder_may_settle_after_a_reopen,
                    an_ok_counts_whose_claim_a_crash_made_forgotten,
                    an_epoch_from_before_a_job_or_its_redrive_is_refused,
                }
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn random_scripts_are_answered_as_the_reference_model_answers() {
                for seed in $crate::conformance::differential::seeds() {
                    $crate::conformance::differential(&$factory, seed, $crate::conformance::differential::STEPS).await;
                }
            }
        }
    };
    (@themes $factory:expr; $($theme:ident { $($clause:ident,)+ })+) => {
        $(mod $theme {
            #[allow(unused_imports, reason = "the factory may be named by its whole path")]
            use super::*;

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $clause() {
                $crate::conformance::$theme::$clause(&$factory).await;
            })+
        })+
    };
}
