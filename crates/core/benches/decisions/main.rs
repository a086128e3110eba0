//! What the scheduler's decisions cost, without threads, messages and tensors.
//!
//! `cargo bench -p symphony-core` prints times; `cargo xtask instructions` counts instructions of
//! the same cases under valgrind, where every run gives the same figure.

#![expect(clippy::disallowed_types, reason = "a measurement of real time")]
#![expect(clippy::disallowed_macros, reason = "a measurement that is printed")]

mod cases;
mod grants;
mod plans;
mod pool;
mod random;
mod spent;
mod workload;

use cases::{CASES, Case};
use spent::Spent;
use std::process::ExitCode;
use symphony_core::sched::{Actions, Mode, Scheduler};

/// Rounds that are timed; the fastest is printed, for in the others the machine had other work too.
const ROUNDS: usize = 9;

/// Models that are loaded at once.
const LOADED: u32 = 10_000;

/// Models of one plan.
const PLANNED: u32 = 1000;

fn main() -> ExitCode {
    // Cargo adds an argument of its own.
    let argument = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let Some(name) = argument else {
        print_times();
        return ExitCode::SUCCESS;
    };
    if name == "list" {
        CASES.iter().for_each(|case| println!("{}", case.name));
        return ExitCode::SUCCESS;
    }
    let Some(case) = CASES.iter().find(|case| case.name == name) else {
        eprintln!("there is no case {name}: `list` names them");
        return ExitCode::FAILURE;
    };
    print_counts(case);
    ExitCode::SUCCESS
}

/// One run whose instructions are counted: prints how many requests and batches there were.
fn print_counts(case: &Case) {
    let mut workload = case.workload();
    workload.run(case.warm);
    let spent = measured(|| workload.run(case.warm));
    println!("{} requests", spent.requests);
    println!("{} batches", spent.batches);
}

/// What is counted is what happens in here; the name is known to `cargo xtask instructions`.
#[inline(never)]
fn measured(run: impl FnOnce() -> Spent) -> Spent {
    run()
}

fn print_times() {
    println!("                           ns per request                     per batch");
    println!("case               batch   arrive  settle complete    all     settle and complete");
    for case in CASES {
        let mut workload = case.workload();
        workload.run(case.warm);
        let rounds = (0..ROUNDS).map(|_| workload.run(case.warm));
        if let Some(fastest) = rounds.min_by_key(Spent::total) {
            print_case(case.name, &fastest);
        }
    }
    let mut scheduler = Scheduler::new(Mode::Adaptive, 1);
    let took = pool::load(&mut scheduler, LOADED, &mut Actions::default());
    for (changes, what) in [(false, "nothing"), (true, "their delays")] {
        if let Some(took) = plans::fastest(PLANNED, ROUNDS as u64, changes) {
            let ms = took.as_secs_f64() * 1e3;
            println!("{PLANNED} models of which {what} changed are planned in {ms:.2} ms");
        }
    }
    println!("{LOADED} models are loaded in {:.1} ms", took.as_secs_f64() * 1e3);
}

fn print_case(name: &str, spent: &Spent) {
    let ns = |section: usize| spent.time[section].as_nanos() as f64;
    let [arrive, settle, complete] = [ns(spent::ARRIVE), ns(spent::SETTLE), ns(spent::COMPLETE)];
    let per_batch = (settle + complete) / spent.batches as f64;
    if spent.requests == 0 {
        println!("{name:18} {:50} {per_batch:10.0}", "");
        return;
    }
    let requests = spent.requests as f64;
    let batch = requests / spent.batches as f64;
    let [a, s, c] = [arrive, settle, complete].map(|ns| ns / requests);
    println!("{name:18} {batch:5.1} {a:8.1} {s:7.1} {c:8.1} {:6.1} {per_batch:15.0}", a + s + c);
}
