//! The dials against models of destinations, on virtual time: how near to its capacity a backlog is drained, and how
//! often the destination is asked too much.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use uuid::Uuid;

use super::super::*;
use crate::job::WorkerId;

/// SplitMix64: the same drain every time.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }
}

/// A destination; times in seconds.
enum Model {
    /// So many a second, `burst` at once; refuses the rest at once. `noise`: other clients take up to so many a second.
    Bucket { per_second: f64, burst: f64, service: f64, noise: f64, tokens: f64, at: f64 },
    /// So many at a time; refuses the rest at once.
    Concurrency { most: u32, service: f64, busy: u32 },
    /// So many servers, and all others wait in line.
    Queue { free: Vec<f64>, service: f64 },
}

impl Model {
    fn bucket(per_second: f64, burst: f64, service: f64) -> Self {
        Model::Bucket { per_second, burst, service, noise: 0.0, tokens: burst, at: 0.0 }
    }

    fn queue(servers: usize, service: f64) -> Self {
        Model::Queue { free: vec![0.0; servers], service }
    }

    fn answer(&mut self, now: f64, random: &mut Random) -> (Class, f64) {
        match self {
            Model::Bucket { per_second, burst, service, noise, tokens, at } => {
                let rate = *per_second - *noise * (1.0 + (0.7 * now).sin());
                *tokens = (*tokens + (now - *at) * rate).min(*burst);
                *at = now;
                if *tokens < 1.0 {
                    return (Class::Overload, 0.001);
                }
                *tokens -= 1.0;
                (Class::Ok, random.exponential(*service))
            }
            Model::Concurrency { most, busy, .. } if *busy >= *most => (Class::Overload, 0.001),
            Model::Concurrency { service, busy, .. } => {
                *busy += 1;
                (Class::Ok, *service * (0.7 + 0.6 * random.unit()))
            }
            Model::Queue { free, service } => {
                let next = free.iter_mut().min_by(|a, b| a.total_cmp(b)).expect("a queue has servers");
                *next = next.max(now) + random.exponential(*service);
                (Class::Ok, *next - now)
            }
        }
    }

    fn done(&mut self) {
        if let Model::Concurrency { busy, .. } = self {
            *busy -= 1;
        }
    }

    fn scale(&mut self, factor: f64) {
        if let Model::Bucket { per_second, .. } = self {
            *per_second *= factor;
        }
    }
}

struct Drain {
    /// Share of the capacity that was used from the first answer to the last.
    used: f64,
    /// Share of the calls that were refused.
    refused: f64,
    trips: u32,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Look,
    Answered { job: u32, sent: usize, class: Class, latency_us: u64 },
}

/// Drains `jobs` after an outage through a gate; `change`: at that second the capacity is multiplied by that factor.
fn drain(mut model: Model, capacity: f64, jobs: u32, change: Option<(f64, f64)>) -> Drain {
    let mut random = Random(7);
    let (settings, start) = (GateSettings::default(), Mono::from_millis(0));
    let record = GateRecord { goodput: capacity, epoch: 1, ..GateRecord::default() };
    let mut gate = Gate::restore(settings, &record, Now::default());
    let (mut change, mut done, mut refused, mut calls, mut trips) = (change, 0, 0, 0u32, 0);
    let mut waiting: VecDeque<u32> = (0..jobs).collect();
    let mut sents: Vec<Sent> = Vec::new();
    let mut events = BinaryHeap::from([Reverse((0u64, 0u32, Event::Look))]);
    let mut order = 0;
    while let Some(Reverse((us, _, event))) = events.pop() {
        let seconds = us as f64 / 1e6;
        let now = Now { wall: Timestamp::from_millis(us as i64 / 1000), mono: start.plus(Duration::from_micros(us)) };
        if let Some((_, factor)) = change.take_if(|(at, _)| seconds >= *at) {
            model.scale(factor);
        }
        let mut later = |after_us: u64, event| {
            order += 1;
            events.push(Reverse((us + after_us, order, event)));
        };
        match event {
            Event::Look => later(2_000, Event::Look),
            Event::Answered { job, sent, class, latency_us } => {
                let id = JobId(Uuid::from_u128(u128::from(job)));
                let outcome = Outcome { latency: Duration::from_micros(latency_us), ..Outcome::of(class) };
                let worker = WorkerId(Uuid::from_u128(1));
                let answer =
                    Answer { job: id, worker, outcome: &outcome, sent: sents[sent], at: Tick(us + 1), charged: false };
                trips += u32::from(gate.answered(&answer, now) == Some(Transition::Opened));
                gate.ended(id, sents[sent], now.mono);
                if class == Class::Ok {
                    model.done();
                    done += 1;
                } else {
                    refused += 1;
                    waiting.push_back(job);
                }
                if done == jobs {
                    return Drain {
                        used: f64::from(jobs) / capacity / seconds,
                        refused: refused as f64 / f64::from(calls),
                        trips,
                    };
                }
            }
        }
        while let Some(admission) = gate.admit(waiting.len().min(64) as u32, now.mono) {
            for job in waiting.drain(..admission.count as usize).collect::<Vec<_>>() {
                let sent =
                    gate.granted(JobId(Uuid::from_u128(u128::from(job))), admission, Tick(us), gate.epoch(), now.mono);
                sents.push(sent);
                calls += 1;
                let (class, latency) = model.answer(seconds, &mut random);
                let latency_us = ((latency + 0.001) * 1e6) as u64;
                later(latency_us, Event::Answered { job, sent: sents.len() - 1, class, latency_us });
            }
        }
        assert!(seconds < 1_000.0, "only {done} of {jobs} were done in a thousand seconds");
    }
    unreachable!("looks go on for ever")
}

#[track_caller]
fn assert_drain(model: Model, capacity: f64, jobs: u32, at_least: f64, refused_at_most: f64) {
    let drain = drain(model, capacity, jobs, None);
    assert_eq!(drain.trips, 0);
    assert!(drain.used >= at_least, "used {:.3} of the capacity, refused {:.4}", drain.used, drain.refused);
    assert!(drain.refused <= refused_at_most, "refused {:.4}, used {:.3}", drain.refused, drain.used);
}

#[test]
fn a_destination_that_counts_calls_per_second_is_used_to_97_percent_with_1_percent_refused() {
    assert_drain(Model::bucket(100.0, 5.0, 0.005), 100.0, 10_000, 0.97, 0.01);
    assert_drain(Model::bucket(1_000.0, 50.0, 0.005), 1_000.0, 50_000, 0.97, 0.01);
    assert_drain(Model::bucket(5_000.0, 250.0, 0.005), 5_000.0, 200_000, 0.97, 0.01);
    assert_drain(Model::bucket(5_000.0, 250.0, 0.05), 5_000.0, 200_000, 0.96, 0.01);
}

#[test]
fn a_large_burst_does_not_deceive() {
    assert_drain(Model::bucket(1_000.0, 1_000.0, 0.005), 1_000.0, 100_000, 0.98, 0.015);
}

#[test]
fn a_destination_that_counts_calls_in_flight_is_used_to_96_percent() {
    assert_drain(Model::Concurrency { most: 16, service: 0.05, busy: 0 }, 320.0, 20_000, 0.96, 0.01);
    assert_drain(Model::Concurrency { most: 64, service: 0.2, busy: 0 }, 320.0, 20_000, 0.96, 0.02);
}

#[test]
fn a_queueing_server_is_kept_busy() {
    assert_drain(Model::queue(1, 0.005), 200.0, 10_000, 0.95, 0.0);
    assert_drain(Model::queue(8, 0.02), 400.0, 20_000, 0.95, 0.0);
    assert_drain(Model::queue(64, 0.02), 3_200.0, 100_000, 0.95, 0.0);
}

#[test]
fn capacity_that_is_halved_or_doubled_in_mid_drain_is_followed() {
    let halved = drain(Model::bucket(1_000.0, 50.0, 0.005), 1_000.0, 50_000, Some((20.0, 0.5)));
    // 20 s at 1,000/s and 30,000 jobs at 500/s: 80 s at best.
    assert!(halved.used >= 0.96 * 50.0 / 80.0, "used {:.3}", halved.used);
    let doubled = drain(Model::bucket(1_000.0, 50.0, 0.005), 1_000.0, 50_000, Some((20.0, 2.0)));
    // 20 s at 1,000/s and 30,000 jobs at 2,000/s: 35 s at best.
    assert!(doubled.used >= 0.92 * 50.0 / 35.0, "used {:.3}", doubled.used);
    assert_eq!((halved.trips, doubled.trips), (0, 0));
}

#[test]
fn noise_from_other_clients_is_followed() {
    let noisy = Model::Bucket { per_second: 1_000.0, burst: 50.0, service: 0.005, noise: 100.0, tokens: 50.0, at: 0.0 };
    assert_drain(noisy, 900.0, 50_000, 0.9, 0.015);
}
