//! Random verbs, and what they are about.

use std::time::Duration;

use jobs_core::charging::Evidence;
use jobs_core::destination::{OnUnknown, OrderingOnDead, Policy};
use jobs_core::job::Tick;
use jobs_core::outcome::Class;
use proptest::prelude::*;
use proptest::sample::Index;

/// Under which epoch a worker speaks.
#[derive(Debug, Clone)]
pub(super) enum Under {
    Newest,
    Issued(Index),
    /// Of this start or another, at random.
    Invented(u32, u32),
}

#[derive(Debug, Clone)]
pub(super) enum Verb {
    Pass(u64),
    Claim { destination_epoch: u64 },
    Settle { under: Under, class: Class, unknown: bool, evidence: Evidence },
    Release(Under),
    Lapse(Under),
    Cancel(OrderingOnDead),
    Redrive(bool),
    Expire,
    Restart,
}

pub(super) fn under() -> impl Strategy<Value = Under> {
    prop_oneof![
        6 => Just(Under::Newest),
        3 => any::<Index>().prop_map(Under::Issued),
        1 => (0u32..5, 1u32..40).prop_map(|(start, counter)| Under::Invented(start, counter)),
    ]
}

pub(super) fn evidence() -> impl Strategy<Value = Evidence> {
    let ticks = (1u64..1000, 0u64..1000, 0u64..1000);
    let rest =
        (0u64..4, any::<bool>(), prop::bool::weighted(0.1), any::<bool>(), prop::bool::weighted(0.2), any::<bool>());
    (ticks, rest).prop_map(|((now, other, same), rest)| {
        let (destination_epoch, others_fail, misconfigured, none, is_probe, is_paced) = rest;
        Evidence {
            now: Tick(now),
            destination_epoch,
            // The latest ok of all is no earlier than the latest through one worker.
            other_ok: if none { Tick::NEVER } else { Tick(other.max(same)) },
            ok_begun: if none { Tick::NEVER } else { Tick(same) },
            worker_ok: if none { Tick::NEVER } else { Tick(same) },
            others_fail,
            misconfigured,
            is_probe,
            is_paced,
        }
    })
}

pub(super) fn verb() -> impl Strategy<Value = Verb> {
    let on_dead = prop_oneof![Just(OrderingOnDead::Free), Just(OrderingOnDead::Block)];
    let settle = (under(), prop::sample::select(Class::ALL.to_vec()), any::<bool>(), evidence());
    prop_oneof![
        4 => (0u64..400_000).prop_map(Verb::Pass),
        8 => (0u64..4).prop_map(|destination_epoch| Verb::Claim { destination_epoch }),
        8 => settle.prop_map(|(under, class, unknown, evidence)| Verb::Settle { under, class, unknown, evidence }),
        1 => under().prop_map(Verb::Release),
        2 => under().prop_map(Verb::Lapse),
        1 => on_dead.prop_map(Verb::Cancel),
        2 => any::<bool>().prop_map(Verb::Redrive),
        1 => Just(Verb::Expire),
        1 => Just(Verb::Restart),
    ]
}

pub(super) fn policy() -> impl Strategy<Value = Policy> {
    let window = prop::option::of((1u64..600).prop_map(Duration::from_secs));
    (1u32..5, any::<bool>(), window, prop::option::of(1u32..4)).prop_map(
        |(max_attempts, dead_letter, idempotency_window, max_lost)| Policy {
            max_attempts,
            on_unknown: if dead_letter { OnUnknown::DeadLetter } else { OnUnknown::Retry },
            idempotency_window,
            max_lost,
            ..Policy::default()
        },
    )
}
