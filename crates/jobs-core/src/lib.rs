//! The rules of Holdfast: everything that can be decided without I/O.
//!
//! A job's trip, in reading order: [`job`] says what a job is, [`outcome`] what an attempt found,
//! [`charging`] who is to blame for a failure, [`retry`] when to try again, [`lifecycle`] what the job becomes,
//! [`lease`] who holds it meanwhile, [`dispatch`] who may get the next one. [`store`] is the contract of whatever remembers all this;
//! [`steering`] is its part for operators, [`redrive`] how many jobs are redriven at once; [`memory`] is its reference model. [`protocol`] is what gateway and worker say to each other.
//!
//! Nothing here reads a clock, draws a random number, logs or waits; `now` is an argument. The one exception is
//! the `process` module behind the feature of the same name: the shell the services share.

pub mod callback;
pub mod charging;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod destination;
pub mod dispatch;
pub mod gate;
pub mod job;
pub mod lease;
pub mod lifecycle;
pub mod memory;
pub mod meters;
pub mod outcome;
#[cfg(feature = "process")]
pub mod process;
pub mod protocol;
pub mod redrive;
pub mod retry;
pub mod steering;
pub mod store;
pub mod time;
pub mod trace;
pub mod watchdog;
