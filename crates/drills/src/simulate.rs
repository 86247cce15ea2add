//! The simulation: the real rules in a world of virtual time, in which everything goes wrong by the seed's will.
//!
//! The lifecycle, the charging, the gates, the dispatcher and the store in memory are the product's own code, as are the worker's
//! decisions about its leases and reports; simulated are the clocks, the network, the destinations, the processes and their
//! deaths ([`plan`] says which, [`draw`] draws one from a seed). A watch keeps its own account and says after each step
//! whether the contract's invariants hold. The same seed is the same run.
//!
//! It does not run the HTTP shells or the SQL stores: those have drills and suites of their own.

mod brain;
mod bug;
mod capacity;
mod client;
mod destination;
mod dice;
mod draw;
mod event;
mod gateway;
mod measure;
mod network;
mod overload;
mod plan;
mod report;
mod scenario;
mod watch;
mod worker;
mod world;

use std::collections::BTreeMap;

pub use self::bug::Bug;
pub use self::capacity::{Capacity, CapacityReport, capacities};
pub use self::destination::{Model, Second, Weather};
pub use self::draw::plan as draw;
pub use self::measure::Measured;
pub use self::overload::{Overload, OverloadReport, overloads};
pub use self::plan::{Act, Fault, MS, Network, Plan, Post, RetryBy, SECOND, SitePlan, Temper, Us};
pub use self::report::{SimulationReport, simulate, trace};
pub use self::scenario::{Comparison, Scenario, ScenarioReport, compare, scenarios};
pub use self::watch::{Rule, TRANSITIONS, Violation};
pub use self::world::Sample;
use self::world::World;

/// How a run went.
#[derive(Debug)]
pub struct Outcome {
    pub seed: u64,
    pub events: u64,
    pub violation: Option<Violation>,
    /// How often each transition was seen, by its name.
    pub transitions: BTreeMap<&'static str, u64>,
}

/// Runs a plan to its end, or to the first rule that is broken. `trace`: each event is written to stderr.
pub fn run(plan: Plan, trace: bool) -> Outcome {
    let seed = plan.seed;
    let mut world = World::new(plan);
    world.trace = trace;
    world.run();
    Outcome {
        seed,
        events: world.events,
        violation: world.watch.broken().cloned(),
        transitions: world.watch.transitions().clone(),
    }
}
