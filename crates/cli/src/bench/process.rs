//! What the system knows of a process, from `/proc`.

use anyhow::{Context, Result};
use std::fs;
use std::time::Duration;

/// Linux counts processor time for programs in hundredths of a second, on every machine.
const TICK: Duration = Duration::from_millis(10);

/// Processor time a process has used so far, in user and in kernel mode, all threads together.
///
/// # Errors
/// There is no such process, or no `/proc`.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let ticks = ticks(&text).with_context(|| format!("{path} does not say the processor time"))?;
    Ok(TICK.saturating_mul(ticks))
}

/// Memory of a process that is in RAM, in bytes.
///
/// # Errors
/// There is no such process, or no `/proc`.
pub(crate) fn resident_bytes(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    resident(&text).with_context(|| format!("{path} does not say VmRSS"))
}

/// Fields 14 and 15. The second field, the name, may hold anything, but ends the last bracket.
fn ticks(stat: &str) -> Option<u32> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11);
    let user: u32 = times.next()?.parse().ok()?;
    let system: u32 = times.next()?.parse().ok()?;
    user.checked_add(system)
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_whatever_the_process_is_called() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 9 0 0 0 120 34 0 0 20 0 9 0 5 1 2 3";
        assert_eq!(ticks(stat), Some(154));
        assert_eq!(ticks("7 (short) S 1"), None);
        assert_eq!(resident("Name:\tx\nVmRSS:\t   1234 kB\n"), Some(1234 * 1024));
        assert_eq!(resident("Name:\tx\n"), None);
    }

    #[test]
    fn this_process_has_both() {
        let pid = std::process::id();
        assert!(resident_bytes(pid).unwrap() > 0);
        cpu_time(pid).unwrap();
    }
}
