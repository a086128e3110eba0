//! `symphony simulate` as a user runs it. Simulated figures depend on the seed alone, never on the
//! machine.

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;

const SCENARIO: &str = "accelerators = 2\nseeds = [1]\nwarmup_s = 0.5\nseconds = 2\n\
    [[model]]\nname = \"m\"\nalpha_ms = 1.053\nbeta_ms = 5.072\nslo_ms = 25\n\
    [load]\nrate = 600\n";

fn folder(scenario: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(folder.path().join("s.toml"), scenario).expect("a scenario");
    folder
}

fn simulate(folder: &Path, arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_symphony"))
        .arg("simulate")
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .output()
        .expect("symphony runs")
}

fn json(folder: &Path, arguments: &str) -> Value {
    let output = simulate(folder, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn a_run_counts_every_request_once_and_replays() {
    let folder = folder(SCENARIO);
    let run = json(folder.path(), "run s.toml --json --policy deferred,eager");
    let models = run["models"].as_array().expect("a list");
    assert_eq!(models.len(), 2);
    for row in models {
        let count = |key: &str| row[key].as_u64().expect("a count");
        assert_eq!(count("offered"), count("good") + count("late") + count("dropped"), "{row}");
    }
    assert_eq!(models[0]["offered"], models[1]["offered"], "policies see the same requests");
    assert_eq!(run["accelerators"].as_array().map(Vec::len), Some(2));
    assert_eq!(run, json(folder.path(), "run s.toml --json --policy deferred,eager"));
}

#[test]
fn goodput_stays_below_the_bound_and_accelerators_suffice() {
    let folder = folder(SCENARIO);
    let found = json(folder.path(), "goodput s.toml --json");
    let share = found["goodput"][0]["of bound"].as_f64().expect("a share");
    assert!((0.5..=1.0).contains(&share), "{found}");
    let gpus = json(folder.path(), "gpus s.toml --json --rate 900");
    assert_eq!(gpus["accelerators"][0]["accelerators"], 2, "{gpus}");
}

#[test]
fn random_scenarios_are_compared_and_replay() {
    let folder = folder(SCENARIO);
    let compared = json(folder.path(), "compare --random 2 --seed 5 --json");
    let cases = compared["cases"].as_array().expect("a list");
    for case in cases {
        let share = case["deferred"].as_f64().expect("a share");
        assert!((0.0..=1.1).contains(&share), "{case}");
    }
    let more = json(folder.path(), "compare --random 3 --seed 5 --json");
    assert_eq!(more["cases"].as_array().map(|all| &all[..2]), Some(cases.as_slice()));
    assert_eq!(simulate(folder.path(), "compare --random 0").status.code(), Some(2));
}

#[test]
fn a_sweep_prints_csv_and_draws() {
    let folder = folder(SCENARIO);
    let sweep = "sweep s.toml --parameter rate --values 300,600 --measure busy --csv --plot b.png";
    let output = simulate(folder.path(), sweep);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(text.lines().count(), 3, "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.starts_with("offered requests per second,deferred: busy accelerators\n300,"));
    let drawn = std::fs::read(folder.path().join("b.png")).expect("a picture");
    assert!(drawn.starts_with(b"\x89PNG"));
}

#[test]
fn a_timeline_is_drawn_and_traced() {
    let folder = folder(SCENARIO);
    let output = simulate(folder.path(), "timeline s.toml --plot t.svg --trace t.json");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let svg = std::fs::read_to_string(folder.path().join("t.svg")).expect("a picture");
    assert!(svg.contains("accelerator 1") && svg.ends_with("</svg>\n"));
    let trace = std::fs::read(folder.path().join("t.json")).expect("a trace");
    let trace: Value = serde_json::from_slice(&trace).expect("JSON");
    let batches = trace["traceEvents"].as_array().expect("events").iter();
    assert!(batches.filter(|event| event["ph"] == "X").count() > 3, "{trace}");
}

#[test]
fn a_trace_is_replayed() {
    let folder = folder(&SCENARIO.replace("rate = 600", "trace = \"t.jsonl\""));
    let lines = (0..100).map(|n| format!("{{\"time_ms\": {}, \"model\": \"m\"}}\n", 500 + n * 10));
    std::fs::write(folder.path().join("t.jsonl"), lines.collect::<String>()).expect("a trace");
    let run = json(folder.path(), "run s.toml --json");
    assert_eq!(run["models"][0]["good"], 100, "{run}");
    let refused = simulate(folder.path(), "goodput s.toml");
    assert_eq!(refused.status.code(), Some(2));
}

/// Runs a scenario with one thing changed: exit code 2, the words in the message, and no file.
#[track_caller]
fn refused(change: (&str, &str), arguments: &str, words: &[&str]) {
    let folder = folder(&SCENARIO.replace(change.0, change.1));
    let order = "{\"time_ms\": 2, \"model\": \"m\"}\n{\"time_ms\": 1, \"model\": \"m\"}\n";
    let unknown = "{\"time_ms\": 2, \"model\": \"x\"}\n";
    let far = "{\"time_ms\": 1e300, \"model\": \"m\"}\n";
    let cut = "{\"time_ms\": 2, \"model\": \"m\"}\n{\"time_m";
    for (name, text) in [("order", order), ("unknown", unknown), ("far", far), ("cut", cut)] {
        std::fs::write(folder.path().join(format!("{name}.jsonl")), text).expect("a trace");
    }
    let output = simulate(folder.path(), arguments);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{message}");
    for word in words {
        assert!(message.contains(word), "{word} in {message}");
    }
    assert!(!folder.path().join("out.svg").exists());
}

#[test]
fn bad_scenarios_are_refused_by_line() {
    let run = "run s.toml";
    refused(("seeds", "sedes"), run, &["s.toml:2", "sedes", "seeds"]);
    refused(("rate = 600", "rate = -1"), run, &["s.toml:11", "load.rate", "0.001"]);
    refused(("rate = 600", ""), run, &["load.rate"]);
    refused(("accelerators = 2", "accelerators = 0"), run, &["s.toml:1", "accelerators", "4096"]);
    refused(("accelerators = 2", "accelerators = -1"), run, &["s.toml:1"]);
    refused(("slo_ms = 25", "slo_ms = 6"), run, &["s.toml:9", "slo_ms", "l(1)"]);
    refused(("rate = 600", "process = \"normal\""), run, &["s.toml:11", "poisson", "gamma"]);
    refused(("rate = 600", "process = \"gamma\""), run, &["load.cv"]);
    refused(("rate = 600", "cv = 2"), run, &["s.toml:11", "gamma"]);
    refused(("alpha_ms = 1.053\nbeta_ms = 5.072", "table_ms = [3, 2]"), run, &["decreases"]);
    refused(("beta_ms = 5.072\n", ""), run, &["alpha_ms with beta_ms"]);
    refused(("alpha_ms = 1.053\nbeta_ms = 5.072", "profile = \"no.toml\""), run, &["no.toml"]);
    refused(("seeds = [1]", "policies = [\"best\"]"), run, &["s.toml:2", "deferred, eager"]);
    refused(("", ""), "run missing.toml", &["missing.toml"]);
}

#[test]
fn bad_traces_are_refused_by_line() {
    for (name, line, word) in [
        ("order", 2, "sort the trace"),
        ("unknown", 1, "unknown model"),
        ("far", 1, "time"),
        ("cut", 2, "whole"),
        ("missing", 0, "missing"),
    ] {
        let place = format!("{name}.jsonl:{line}");
        let trace = format!("trace = \"{name}.jsonl\"");
        let words = [place.as_str(), word];
        refused(("rate = 600", &trace), "timeline s.toml --plot out.svg", &words);
    }
}

#[test]
fn bad_flags_are_refused_before_any_work() {
    let same = ("", "");
    refused(same, "run s.toml --rate 0", &["rate"]);
    refused(same, "run s.toml --policy best", &["deferred"]);
    refused(same, "sweep s.toml", &["--parameter"]);
    refused(same, "sweep s.toml --parameter accelerators --values 0", &["whole number"]);
    refused(same, "sweep s.toml --parameter slo-ms --values 1", &["l(1)"]);
    refused(same, "sweep s.toml --parameter rate --values 2,1", &["growing"]);
    refused(same, "timeline s.toml --plot missing/out.svg", &["missing"]);
    refused(same, "timeline s.toml --plot out.pdf", &["svg"]);
}
