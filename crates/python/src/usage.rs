//! How much memory a process has, with all that it started.
//!
//! What counts is memory that is in use and no file's: their own, and that of the tensors that they
//! have seen or made. A limit on their address space would count what is only reserved: stacks of
//! threads, sparse arrays, and what CUDA maps, which is more than machines have.

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
/// once. To find that out takes the longer the more memory they have, so it is done only where it
/// decides: not where one of them alone has too much.
pub(crate) fn above(family: &[Pid], max: u64) -> Option<u64> {
    let each = |file: &'static str, keys: [&'static str; 3]| {
        family.iter().map(move |process| read(*process, file, keys))
    };
    let own = each("status", ["RssAnon:", "RssShmem:", "VmSwap:"]);
    let own: Vec<u64> = own.collect();
    let (sum, most) = (own.iter().sum::<u64>(), own.iter().copied().max().unwrap_or_default());
    if sum <= max || most > max {
        return (sum > max).then_some(sum);
    }
    let shared: u64 = each("smaps_rollup", ["Pss_Anon:", "Pss_Shmem:", "SwapPss:"]).sum();
    // Old systems do not tell.
    let sum = if shared == 0 { sum } else { shared };
    (sum > max).then_some(sum)
}

/// The sum of some lines of a file in `/proc`, which are in KiB.
fn read(process: Pid, file: &str, keys: [&str; 3]) -> u64 {
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
