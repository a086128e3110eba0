//! Every benchmark, run for a moment. Its figures are checked for their shape and for adding up,
//! never for a time.

use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// Runs `symphony bench` in a directory and returns the figures it prints.
fn bench(arguments: &[&str], directory: &Path) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_symphony"))
        .arg("bench")
        .args(arguments)
        .arg("--json")
        .current_dir(directory)
        .output()
        .expect("symphony runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    serde_json::from_slice(&output.stdout).expect("figures as JSON")
}

fn here() -> &'static Path {
    Path::new(".")
}

/// How many requests were offered: every one has an outcome, and none failed.
fn offered(counts: &Value) -> u64 {
    assert_eq!(counts["failed"], 0, "{counts}");
    counts.as_object().expect("counts").values().filter_map(Value::as_u64).sum()
}

#[test]
fn latency_measures_every_protocol_in_both_loops() {
    let arguments = ["latency", "--rate", "200", "--seconds", "0.2", "--warmup", "0"];
    let figures = bench(&[&arguments[..], &["--concurrency", "1,20"]].concat(), here());
    let lines = figures["lines"].as_array().expect("lines");
    let named: Vec<_> =
        lines.iter().map(|line| (line["protocol"].as_str(), line["loop"].as_str())).collect();
    let expected: Vec<_> = ["grpc", "http-binary", "http-json"]
        .into_iter()
        .flat_map(|protocol| {
            ["open", "open", "closed", "closed"].map(|kind| (Some(protocol), Some(kind)))
        })
        .collect();
    assert_eq!(named, expected);
    for line in lines {
        assert!(offered(&line["counts"]) > 0, "{line}");
        assert_eq!(line["counts"]["late"], 0, "{line}");
    }
    // The same seed offers the same requests to every protocol.
    let open = lines.iter().filter(|line| line["loop"] == "open");
    let counts: Vec<_> = open.map(|line| offered(&line["counts"])).collect();
    assert!(counts.iter().all(|count| *count == counts[0]), "{counts:?}");
}

#[test]
fn pool_offers_the_same_requests_live_and_simulated() {
    for mode in ["consolidate", "adaptive", "eager"] {
        let arguments = ["pool", "--rate", "500", "--seconds", "0.3", "--warmup", "0.1"];
        let rest = ["--accelerators", "3", "--slo-ms", "60", "--spread", "0.2", "--mode", mode];
        let figures = bench(&[arguments.as_slice(), &rest].concat(), here());
        let [live, simulated] = [&figures["live"], &figures["simulated"]];
        assert_eq!(offered(&live["counts"]), offered(&simulated["counts"]), "{figures}");
        for half in [live, simulated] {
            assert_eq!(half["busy"].as_array().expect("busy shares").len(), 3, "{half}");
            assert!(half["batches"].as_u64().expect("batches") > 0, "{half}");
        }
    }
}

#[test]
fn overload_compares_the_modes_on_one_engine_and_draws_a_plot() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models");
    let models = models.to_str().expect("a plain path");
    let model = ["overload", "--models", models, "--model", "digits", "--engines", "rten,none"];
    let load = ["--shares", "0.01,0.02", "--seconds", "0.2", "--warmup", "0"];
    let rest = ["--slo-times", "400", "--cache-dir", "cache"];
    let figures = bench(&[&model[..], &load, &rest].concat(), directory.path());
    let engines = figures["engines"].as_array().expect("engines");
    assert_eq!(engines.len(), 1, "{figures}");
    let lines = engines[0]["lines"].as_array().expect("lines");
    let named: Vec<_> = lines.iter().map(|line| (&line["mode"], &line["share"])).collect();
    let modes = ["consolidate", "adaptive", "eager"].map(Value::from);
    let shares = [Value::from(0.01), Value::from(0.02)];
    let expected: Vec<_> =
        modes.iter().flat_map(|mode| shares.iter().map(move |share| (mode, share))).collect();
    assert_eq!(named, expected);
    for line in lines {
        assert!(offered(&line["counts"]) > 0, "{line}");
        let foreseen = line["simulated_bad_share"].as_f64().expect("a share");
        assert!((0.0..=1.0).contains(&foreseen), "{line}");
        assert!(line["measured"]["mean"].as_f64().is_some_and(|mean| mean > 0.0), "{line}");
    }
    let left_out = figures["left_out"].as_array().expect("engines left out");
    assert_eq!(left_out.len(), 1, "{figures}");
    assert!(left_out[0].as_str().is_some_and(|text| text.contains("none")), "{figures}");
    let plot = directory.path().join("overload-rten.svg");
    let svg = std::fs::read_to_string(plot).expect("a plot");
    assert!(["consolidate", "adaptive", "eager"].iter().all(|mode| svg.contains(mode)));
}

#[test]
fn idle_tells_the_processor_time() {
    let arguments = ["idle", "--seconds", "0.1", "--warmup", "0", "--accelerators", "2"];
    let figures = bench(&arguments, here());
    assert_eq!(figures["accelerators"], 2);
    assert!(figures["cpu_s"].as_f64().is_some_and(|time| time >= 0.0), "{figures}");
    assert_eq!(figures["answered"], 0);
    assert_eq!(figures["bare"], Value::Null);
    for protocol in ["grpc", "http-binary"] {
        let load = ["--rate", "100", "--protocol", protocol];
        let figures = bench(&[&arguments[..], &load].concat(), here());
        assert!(figures["answered"].as_u64().is_some_and(|count| count > 0), "{figures}");
        let threads = figures["threads"].as_array().expect("threads");
        let sleeps =
            |name| threads.iter().find(|thread| thread["name"] == name)?["sleeps"].as_u64();
        for name in ["frontend", "scheduler", "accelerator"] {
            assert!(sleeps(name).is_some_and(|sleeps| sleeps > 0), "{figures}");
        }
        assert!(figures["bare"]["sleeps"].as_u64().is_some_and(|sleeps| sleeps > 0), "{figures}");
    }
}

#[test]
fn soak_watches_memory_while_requests_are_served() {
    let arguments = ["soak", "--seconds", "0.4", "--steps", "4", "--concurrency", "2"];
    let figures = bench(&arguments, here());
    let steps = figures["steps"].as_array().expect("steps");
    assert_eq!(steps.len(), 4, "{figures}");
    let served: Vec<_> = steps.iter().map(|step| step["served"].as_u64()).collect();
    assert!(served.is_sorted() && served[3] > Some(0), "{figures}");
    assert!(steps.iter().all(|step| step["resident_bytes"].as_u64() > Some(0)), "{figures}");
    assert!(figures["answered"].as_u64() >= served[3], "{figures}");
}

#[test]
fn reload_unloads_and_loads_a_model() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models");
    let models = models.to_str().expect("a plain path");
    let cache = tempfile::tempdir().expect("a temporary directory");
    let cache = cache.path().to_str().expect("a plain path");
    let arguments = ["reload", "--models", models, "--times", "3", "--cache-dir", cache];
    let figures = bench(&arguments, here());
    assert_eq!(figures["times"], 3, "{figures}");
    for command in ["unload", "load"] {
        assert!(figures[command]["median_ms"].as_f64() > Some(0.0), "{figures}");
    }
}

#[test]
fn nonsense_is_refused_by_name() {
    for (arguments, named) in [
        (["latency", "--seconds", "1e9"], "1000000000 seconds"),
        (["pool", "--rate", "0"], "rate"),
        (["pool", "--rate", "1e12"], "requests"),
        (["soak", "--steps", "1"], "steps"),
        (["overload", "--model", "x"], "--models"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_symphony"))
            .arg("bench")
            .args(arguments)
            .output()
            .expect("symphony runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && errors.contains(named), "{arguments:?}: {errors}");
    }
}

#[test]
fn scheduler_gives_every_request_one_outcome_on_one_thread_and_on_two() {
    for threads in ["1", "2"] {
        let load = ["--rate", "20000", "--models", "3", "--accelerators", "20"];
        let time = ["--seconds", "0.3", "--warmup", "0.2", "--threads", threads];
        let figures = bench(&[&["scheduler"][..], &load, &time].concat(), here());
        let counts = &figures["counts"];
        let count = |name: &str| counts[name].as_u64().expect("a count");
        assert!(count("offered") > 1000, "{figures}");
        let ended = ["good", "late", "dropped", "refused", "lost"].map(count);
        assert_eq!(ended.iter().sum::<u64>(), count("offered"), "{counts}");
        assert_eq!((count("lost"), count("doubled")), (0, 0), "{counts}");
        assert_eq!(figures["shards"].as_array().expect("shards").len(), 1);
        assert_eq!(figures["matcher"].is_null(), threads == "1");
    }
}
