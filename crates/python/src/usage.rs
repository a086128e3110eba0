//! How much memory a process has, with all that it started.
//!
//! What counts is memory that is the processes' own and in use. A limit on their address space would
//! count what is only reserved: stacks of threads, sparse arrays, and what CUDA maps, which is more
//! than machines have.

use rustix::process::Pid;
use std::fs;

/// A process and all below it. Those that end meanwhile are left out.
pub(crate) fn family(root: Pid) -> Vec<Pid> {
    let mut found = vec![root];
    let mut at = 0;
    while let Some(&process) = found.get(at) {
        found.extend(children(process));
        at += 1;
    }
    found
}

fn children(process: Pid) -> Vec<Pid> {
    let process = process.as_raw_nonzero();
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { return Vec::new() };
    let lists =
        threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("children")).ok());
    let numbers =
        lists.flat_map(|list| list.split_whitespace().map(str::parse).collect::<Vec<_>>());
    numbers.filter_map(|number| Pid::from_raw(number.ok()?)).collect()
}

/// Their memory in bytes, if it is more than `max`. What several of them share after a fork counts
/// once; to find that out takes long, so it is done only where it decides.
pub(crate) fn above(family: &[Pid], max: u64) -> Option<u64> {
    let sum = |file: &str, keys: [&str; 2]| -> u64 {
        family.iter().map(|process| read(*process, file, keys)).sum()
    };
    let own = sum("status", ["RssAnon:", "VmSwap:"]);
    if own <= max || family.len() == 1 {
        return (own > max).then_some(own);
    }
    let shared = sum("smaps_rollup", ["Pss_Anon:", "SwapPss:"]);
    // Old systems do not tell.
    let own = if shared == 0 { own } else { shared };
    (own > max).then_some(own)
}

/// The sum of two lines of a file in `/proc`, which are in KiB.
fn read(process: Pid, file: &str, keys: [&str; 2]) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/{file}", process.as_raw_nonzero()));
    let text = text.unwrap_or_default();
    let values = text.lines().filter_map(|line| {
        let value = keys.iter().find_map(|key| line.strip_prefix(key))?;
        value.split_whitespace().next()?.parse::<u64>().ok()
    });
    values.sum::<u64>().saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn the_memory_of_this_process_is_seen_and_its_children_are_found() {
        let own = rustix::process::getpid();
        let block = vec![1u8; 64 << 20];
        let bytes = above(&[own], 32 << 20).expect("the block is in use");
        assert!(bytes > block.len() as u64);
        assert_eq!(above(&[own], 1 << 50), None);
        let mut child = Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap();
        let found = family(own)
            .iter()
            .any(|process| process.as_raw_nonzero().get().unsigned_abs() == child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found);
    }
}
