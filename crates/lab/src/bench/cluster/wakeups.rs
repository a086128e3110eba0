//! How often the threads of processes wake. A thread that has waited wakes once for each voluntary
//! switch that the system counts of it; how busy the machine is changes little of that.

use anyhow::{Context, Result};
use std::fs;
use std::path::PathBuf;

/// Voluntary switches of all threads of these processes and of the processes that they have started.
///
/// # Errors
/// Linux does not say.
pub(super) fn voluntary_switches(process: u32) -> Result<u64> {
    let mut sum = 0;
    let tasks = PathBuf::from(format!("/proc/{process}/task"));
    let threads = fs::read_dir(&tasks).with_context(|| format!("no threads of {process}"))?;
    for thread in threads {
        let thread = thread?.path();
        // One that has ended meanwhile counts no more.
        let Ok(status) = fs::read_to_string(thread.join("status")) else { continue };
        sum += switches(&status).with_context(|| format!("no switches in {}", thread.display()))?;
        let children = fs::read_to_string(thread.join("children")).unwrap_or_default();
        for child in children.split_whitespace() {
            sum += voluntary_switches(child.parse()?)?;
        }
    }
    Ok(sum)
}

fn switches(status: &str) -> Option<u64> {
    let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
    count.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_thread_that_sleeps_wakes() {
        let own = std::process::id();
        let before = voluntary_switches(own).unwrap();
        (0..20).for_each(|_| std::thread::sleep(Duration::from_millis(1)));
        assert!(voluntary_switches(own).unwrap() >= before + 20);
        assert_eq!(switches("Name:\tx\nnonvoluntary_ctxt_switches:\t9\n"), None);
    }
}
