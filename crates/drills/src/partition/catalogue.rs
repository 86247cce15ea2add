//! The partitions there are, and what may come of each.

/// One of the three programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Gateway,
    Worker,
    Destination,
}

/// What goes wrong for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nothing gets through from the one to the other, and nobody is told so.
    Cut(&'static [(End, End)]),
    /// The same, and nothing is granted any more when it is over: what succeeds then, was reported late.
    CutThenPaused(&'static [(End, End)]),
    /// SIGSTOP: it stands still, its sockets stay open.
    Stopped(End),
}

/// One of them.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    pub(super) trouble: Trouble,
}

const TO_GATEWAY: (End, End) = (End::Worker, End::Gateway);
const FROM_GATEWAY: (End, End) = (End::Gateway, End::Worker);
const TO_DESTINATION: (End, End) = (End::Worker, End::Destination);
const FROM_DESTINATION: (End, End) = (End::Destination, End::Worker);

/// All of them.
pub(super) static ALL: [Partition; 9] = [
    Partition {
        name: "worker-gateway",
        what: "the worker is cut from the gateway, both ways",
        trouble: Trouble::Cut(&[TO_GATEWAY, FROM_GATEWAY]),
    },
    Partition {
        name: "to-the-gateway",
        what: "what the worker says does not reach the gateway",
        trouble: Trouble::Cut(&[TO_GATEWAY]),
    },
    Partition {
        name: "from-the-gateway",
        what: "what the gateway says does not reach the worker",
        trouble: Trouble::Cut(&[FROM_GATEWAY]),
    },
    Partition {
        name: "worker-destination",
        what: "the worker is cut from the destination, both ways",
        trouble: Trouble::Cut(&[TO_DESTINATION, FROM_DESTINATION]),
    },
    Partition {
        name: "to-the-destination",
        what: "what the worker asks does not reach the destination",
        trouble: Trouble::Cut(&[TO_DESTINATION]),
    },
    Partition {
        name: "from-the-destination",
        what: "what the destination answers does not reach the worker",
        trouble: Trouble::Cut(&[FROM_DESTINATION]),
    },
    Partition {
        name: "late-success",
        what: "the worker is cut from the gateway until its leases have lapsed, and reports its successes when they have",
        trouble: Trouble::CutThenPaused(&[TO_GATEWAY, FROM_GATEWAY]),
    },
    Partition {
        name: "worker-stopped",
        what: "the worker stands still for longer than a lease",
        trouble: Trouble::Stopped(End::Worker),
    },
    Partition {
        name: "gateway-stopped",
        what: "the gateway stands still for longer than a lease",
        trouble: Trouble::Stopped(End::Gateway),
    },
];
