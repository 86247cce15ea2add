mod capacity;
mod opens;
mod probes;
mod rig;
