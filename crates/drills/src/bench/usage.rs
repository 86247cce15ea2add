//! What processes take of the machine, from Linux's `/proc`: the benchmark itself of the processors, the gateway of the disk.

use std::time::Duration;

/// Processor time so far; zero where the system has no `/proc`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cpu(Duration);

impl Cpu {
    pub(super) fn of_this_process() -> Self {
        Self::read().unwrap_or_default()
    }

    pub(super) fn since(self, earlier: Cpu) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    fn read() -> Option<Self> {
        Self::read_of("self")
    }

    fn read_of(process: &str) -> Option<Self> {
        let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // The program's name, in brackets, may itself have spaces and brackets. utime and stime are the 14th and 15th field.
        let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
        let mut ticks = || fields.next()?.parse::<u64>().ok();
        let ticks = ticks()? + ticks()?;
        Some(Cpu(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)))
    }
}

/// Processor time so far of the process `id`; zero where the system does not tell.
pub(super) fn cpu_of(id: u32) -> Duration {
    Cpu::read_of(&id.to_string()).unwrap_or_default().0
}

/// Bytes that the process `id` has had written to the disk, as far as the system accounts for them; `None` where it does not tell.
pub(super) fn written_bytes(id: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{id}/io")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("write_bytes: "))?.parse().ok()
}

/// Processors of this machine.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
