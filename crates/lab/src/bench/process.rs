//! What the system knows of a process, from `/proc`.

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::collections::BTreeMap;
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

/// What a thread has used so far, or threads of one name together.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Used {
    pub(crate) name: String,
    pub(crate) cpu: Duration,
    /// How often it slept; it was woken as often.
    pub(crate) sleeps: u64,
}

/// The threads of a process, by their numbers in the system.
///
/// # Errors
/// There is no such process, or no `/proc` that says so much of threads.
pub(crate) fn threads(pid: u32) -> Result<BTreeMap<u32, Used>> {
    let path = format!("/proc/{pid}/task");
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(&path).with_context(|| format!("cannot read {path}"))? {
        let thread = entry?.path();
        let read = |what: &str| fs::read_to_string(thread.join(what));
        // One may end at any moment.
        let files = (read("comm"), read("schedstat"), read("status"));
        let (Ok(name), Ok(times), Ok(status)) = files else { continue };
        let number = thread.file_name().and_then(|name| name.to_str()?.parse().ok());
        let used = used(&name, &times, &status);
        let (number, used) = number.zip(used).with_context(|| format!("{path} is odd"))?;
        all.insert(number, used);
    }
    ensure!(!all.is_empty(), "no times of threads in {path}");
    Ok(all)
}

/// What threads have used since, those of one name (less its number) together, most first. One that
/// has ended meanwhile is left out.
pub(crate) fn used_since(before: &BTreeMap<u32, Used>, now: &BTreeMap<u32, Used>) -> Vec<Used> {
    let mut by_name = BTreeMap::<&str, Used>::new();
    for (number, used) in now {
        let (cpu, sleeps) = before.get(number).map_or_else(Default::default, |b| (b.cpu, b.sleeps));
        let name = used.name.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('-');
        let sum = by_name.entry(name).or_default();
        sum.cpu += used.cpu.saturating_sub(cpu);
        sum.sleeps += used.sleeps.saturating_sub(sleeps);
    }
    let named = |(name, used): (&str, Used)| Used { name: name.to_owned(), ..used };
    let mut all: Vec<_> = by_name.into_iter().map(named).collect();
    all.sort_by_key(|used| std::cmp::Reverse(used.cpu));
    all
}

fn used(name: &str, schedstat: &str, status: &str) -> Option<Used> {
    let cpu = Duration::from_nanos(schedstat.split_whitespace().next()?.parse().ok()?);
    let sleeps = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
    Some(Used { name: name.trim_end().to_owned(), cpu, sleeps: sleeps.trim().parse().ok()? })
}

/// Memory of a process that is in RAM, in bytes.
///
/// # Errors
/// There is no such process, or no `/proc`.
pub(crate) fn resident_bytes(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    bytes_of("VmRSS:", &text).with_context(|| format!("{path} does not say VmRSS"))
}

/// The most memory of a process that was in RAM at once, in bytes.
///
/// # Errors
/// There is no such process, or no `/proc`.
pub(crate) fn peak_bytes(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    bytes_of("VmHWM:", &text).with_context(|| format!("{path} does not say VmHWM"))
}

/// Memory of this process that is in RAM, in MiB.
///
/// # Errors
/// There is no `/proc`.
pub(crate) fn resident_mib() -> Result<f64> {
    Ok(resident_bytes(std::process::id())? as f64 / f64::from(1 << 20))
}

/// Fields 14 and 15. The second field, the name, may hold anything, but ends the last bracket.
fn ticks(stat: &str) -> Option<u32> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11);
    let user: u32 = times.next()?.parse().ok()?;
    let system: u32 = times.next()?.parse().ok()?;
    user.checked_add(system)
}

fn bytes_of(field: &str, status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
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
        assert_eq!(bytes_of("VmRSS:", "Name:\tx\nVmRSS:\t   1234 kB\n"), Some(1234 * 1024));
        assert_eq!(bytes_of("VmRSS:", "Name:\tx\n"), None);
    }

    #[test]
    fn threads_of_one_name_are_counted_together() {
        let thread = |name: &str, millis, sleeps| {
            let status = format!("Name:\tx\nvoluntary_ctxt_switches:\t{sleeps}\n");
            used(&format!("{name}\n"), &format!("{millis}000000 7 9\n"), &status).unwrap()
        };
        let before = [(1, thread("scheduler", 5, 10)), (2, thread("accelerator-0", 1, 1))];
        let now = [
            (1, thread("scheduler", 7, 13)),
            (2, thread("accelerator-0", 2, 3)),
            (3, thread("accelerator-1", 4, 5)),
        ];
        let since = used_since(&before.into(), &now.into());
        let expected =
            [("accelerator", 5, 7), ("scheduler", 2, 3)].map(|(name, millis, sleeps)| Used {
                name: name.to_owned(),
                cpu: Duration::from_millis(millis),
                sleeps,
            });
        assert_eq!(since, expected);
        assert_eq!(used("x", "", ""), None);
    }

    #[test]
    fn this_process_has_both() {
        let pid = std::process::id();
        assert!(peak_bytes(pid).unwrap() >= resident_bytes(pid).unwrap());
        cpu_time(pid).unwrap();
    }
}
