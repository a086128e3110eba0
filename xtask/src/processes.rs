//! A process and the processes that it has started, from Linux's `/proc`.

use std::fs;
use std::path::PathBuf;

use rustix::process::{Pid, Signal, kill_process};

/// Describes a process and its threads.
fn described(pid: u32) -> Option<String> {
    let folder = PathBuf::from(format!("/proc/{pid}"));
    let name = |folder: PathBuf| fs::read_to_string(folder.join("comm")).ok();
    let threads = fs::read_dir(folder.join("task")).ok()?;
    let mut threads: Vec<String> = threads
        .filter_map(|thread| Some(name(thread.ok()?.path())?.trim_end().to_owned()))
        .collect();
    threads.sort();
    Some(format!("process {pid} ({}): threads {}", name(folder)?.trim_end(), threads.join(", ")))
}

/// The process `pid` and everything that it started and that still exists, parents first.
fn family(pid: u32) -> Vec<u32> {
    let parents = parents();
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(&parent) = family.get(next) {
        family.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(child, _)| child));
        next += 1;
    }
    family
}

/// Every process with its parent.
fn parents() -> Vec<(u32, u32)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name is in parentheses and may itself contain spaces and parentheses.
        let (_, fields) = stat.rsplit_once(") ")?;
        Some((pid, fields.split(' ').nth(1)?.parse().ok()?))
    })
    .collect()
}

/// Kills the process `pid` with everything that it started. Returns a description of each process.
pub(crate) fn kill_family(pid: u32) -> Vec<String> {
    let family = family(pid);
    let told = family.iter().filter_map(|&pid| described(pid)).collect();
    for pid in family {
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            // It may have ended already.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    told
}
