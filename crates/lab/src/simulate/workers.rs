//! Independent simulations side by side, one per core, with a progress bar.

use indicatif::{ProgressBar, ProgressStyle};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// The results of `work` on every job, in the order of the jobs. The bar is shown on a terminal
/// only.
///
/// # Errors
/// The first job, in order, that failed.
pub(crate) fn each<J: Sync, R: Send>(
    jobs: &[J],
    what: &'static str,
    work: impl Fn(&J) -> anyhow::Result<R> + Sync,
) -> anyhow::Result<Vec<R>> {
    let bar = progress_bar(what, jobs.len() as u64);
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(jobs.len()));
    let worker = || {
        while let Some((number, job)) = {
            let number = next.fetch_add(1, Ordering::Relaxed);
            jobs.get(number).map(|job| (number, job))
        } {
            let result = work(job);
            results.lock().expect("no worker panics while it adds").push((number, result));
            bar.inc(1);
        }
    };
    thread::scope(|scope| {
        for _ in 0..cores().min(jobs.len()) {
            scope.spawn(worker);
        }
    });
    bar.finish_and_clear();
    let mut results = results.into_inner().expect("no worker panics while it adds");
    results.sort_unstable_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}

/// How many simulations run at a time.
pub(super) fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// A bar on standard error; invisible where that is no terminal.
pub(super) fn progress_bar(what: &'static str, length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {percent}% {elapsed}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_message(what).with_style(style)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_jobs() {
        let jobs: Vec<u32> = (0..100).collect();
        let doubled = each(&jobs, "", |job| Ok(job * 2)).unwrap();
        assert_eq!(doubled, (0..200).step_by(2).collect::<Vec<_>>());
        let failed = each(&jobs, "", |&job| if job > 3 { anyhow::bail!("{job}") } else { Ok(()) });
        assert_eq!(failed.unwrap_err().to_string(), "4");
    }
}
