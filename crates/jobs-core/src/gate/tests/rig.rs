//! A gate to play with: its clock and its jobs are in the hands of the test.

use uuid::Uuid;

use super::super::*;
use crate::job::WorkerId;

/// A gate with a clock and a numbered worker; jobs are numbers.
pub(super) struct Bench {
    pub(super) gate: Gate,
    pub(super) now: Now,
    tick: u64,
}

impl Bench {
    pub(super) fn new() -> Self {
        let now = Now { wall: Timestamp::from_millis(1_000_000), mono: Mono::from_millis(1_000) };
        Bench { gate: Gate::new(GateSettings::default(), now.mono), now, tick: 1 }
    }

    pub(super) fn wait(&mut self, ms: u64) {
        self.now = self.now.plus(Duration::from_millis(ms));
    }

    /// Grants one call with `job`, if the gate lets it.
    pub(super) fn send(&mut self, job: u128) -> Option<Sent> {
        let admission = self.gate.admit(1, self.now.mono)?;
        self.tick += 1;
        Some(self.gate.granted(
            JobId(Uuid::from_u128(job)),
            admission,
            Tick(self.tick),
            self.gate.epoch(),
            self.now.mono,
        ))
    }

    pub(super) fn answer_by(
        &mut self,
        worker: u128,
        job: u128,
        sent: Sent,
        outcome: &Outcome,
        charged: bool,
    ) -> Option<Transition> {
        self.tick += 1;
        let (job, worker) = (JobId(Uuid::from_u128(job)), WorkerId(Uuid::from_u128(worker)));
        let answer = Answer { job, worker, outcome, sent, at: Tick(self.tick), charged };
        let transition = self.gate.answered(&answer, self.now);
        self.gate.ended(job, sent, self.now.mono);
        transition
    }

    pub(super) fn answer(&mut self, job: u128, sent: Sent, class: Class) -> Option<Transition> {
        self.answer_by(1, job, sent, &Outcome::of(class), false)
    }

    /// Sends `job` and answers it at once.
    pub(super) fn call(&mut self, job: u128, class: Class) -> Option<Transition> {
        let sent = self.send(job).expect("the gate lets it through");
        self.answer(job, sent, class)
    }

    pub(super) fn opened() -> Self {
        let mut bench = Bench::new();
        for job in 1..=5 {
            bench.call(job, Class::Down);
        }
        assert!(bench.gate.is_open());
        bench
    }

    /// How many probes of fresh jobs, none of which is ever answered, go out in the next `ms`.
    pub(super) fn probes_in(&mut self, ms: u64) -> usize {
        let mut sent = 0;
        for _ in 0..ms {
            self.wait(1);
            sent += usize::from(self.send(1_000_000 + u128::from(self.tick)).is_some());
        }
        sent
    }
}
