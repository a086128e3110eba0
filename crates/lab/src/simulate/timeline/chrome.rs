//! The timeline in Chrome's trace event format.

use super::shown::{ShownRun, Timeline};
use serde_json::{Value, json};
use symphony_core::Time;

/// Complete events in microseconds: a process per policy, a thread per accelerator.
pub(super) fn trace(timeline: &Timeline) -> Value {
    let mut events = vec![];
    for (pid, run) in timeline.runs.iter().enumerate() {
        name_rows(timeline, pid, run, &mut events);
        add_events(timeline, pid, run, &mut events);
    }
    json!({ "displayTimeUnit": "ms", "traceEvents": events })
}

fn name_rows(timeline: &Timeline, pid: usize, run: &ShownRun, events: &mut Vec<Value>) {
    events.push(json!({
        "ph": "M", "pid": pid, "name": "process_name", "args": { "name": run.policy.to_string() }
    }));
    events.extend((0..timeline.accelerators).map(|row| {
        json!({
            "ph": "M", "pid": pid, "tid": row, "name": "thread_name",
            "args": { "name": format!("accelerator {row}") }
        })
    }));
}

fn add_events(timeline: &Timeline, pid: usize, run: &ShownRun, events: &mut Vec<Value>) {
    let us = |time: Time| time.0 as f64 / 1e3;
    let name = |model: usize| &timeline.models[model].name;
    events.extend(run.batches.iter().map(|batch| {
        json!({
            "ph": "X", "pid": pid, "tid": batch.accelerator,
            "name": format!("{} x{}", name(batch.model), batch.size),
            "ts": us(batch.begin), "dur": us(batch.end) - us(batch.begin),
            "args": { "requests": batch.size, "deadline_us": us(batch.deadline) }
        })
    }));
    events.extend(run.drops.iter().map(|drop| {
        let name = format!("{}: {}", name(drop.model), drop.reason);
        json!({ "ph": "i", "s": "p", "pid": pid, "tid": 0, "name": name, "ts": us(drop.at) })
    }));
}
