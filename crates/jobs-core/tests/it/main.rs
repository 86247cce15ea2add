//! The rules seen from outside: the conformance suite on the memory store, the table of the life cycle, and properties.
#![expect(clippy::unwrap_used, reason = "a test may; the lint knows only functions marked as tests")]

mod lifecycle_properties;
mod lifecycle_table;
mod model;
mod script_reach;
mod store;
