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
    let run = json(folder.path(), "run s.toml --json --policy consolidate,eager");
    let models = run["models"].as_array().expect("a list");
    assert_eq!(models.len(), 2);
    for row in models {
        let count = |key: &str| row[key].as_u64().expect("a count");
        assert_eq!(count("offered"), count("good") + count("late") + count("dropped"), "{row}");
    }
    assert_eq!(models[0]["offered"], models[1]["offered"], "policies see the same requests");
    assert_eq!(run["accelerators"].as_array().map(Vec::len), Some(2));
    assert_eq!(run, json(folder.path(), "run s.toml --json --policy consolidate,eager"));
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
fn a_split_scheduler_without_delays_runs_as_a_whole_one() {
    let whole = folder(SCENARIO);
    let split = "[split]\nshards = 1\nmessage_us = 0\n[load]";
    let split = folder(&SCENARIO.replace("[load]", split));
    let run = "run s.toml --json --policy consolidate,adaptive,eager";
    assert_eq!(json(whole.path(), run), json(split.path(), run));
    let slow = "sweep s.toml --json --parameter message-us --values 0,5000 --measure good";
    let rows = json(split.path(), slow);
    let good = |row: usize| rows["sweep"][row]["consolidate good r/s"].as_f64().expect("a rate");
    assert!(good(0) > good(1), "{rows}");
}

#[test]
fn the_best_fixed_knobs_are_found_and_shown_beside_others() {
    let folder = folder(SCENARIO);
    let fixed = "fixed s.toml --json --tries 90 --policy eager,consolidate --sigma";
    let mut before = f64::INFINITY;
    for sigma in ["0", "0.15"] {
        let found = json(folder.path(), &format!("{fixed} {sigma}"));
        let rate = |row: usize| found["goodput"][row]["goodput r/s"].as_f64().expect("a rate");
        assert_eq!(found["goodput"][1]["policy"], "eager", "{found}");
        // Where times are certain, knobs found for the case are better than any rule without.
        assert!(sigma != "0" || (rate(0) > rate(1) && rate(0) > rate(2)), "{found}");
        let policy = found["goodput"][0]["policy"].as_str().expect("a name");
        let again = json(
            folder.path(),
            &format!("goodput s.toml --json --policy {policy} --sigma {sigma}"),
        );
        assert_eq!(again["goodput"][0]["goodput r/s"].as_f64(), Some(rate(0)), "{found}");
        assert!(rate(0) < before, "noise costs: {found}");
        before = rate(0);
    }
    for bad in ["--sigma -1", "--sigma 6", "--margin-max 0.9", "--accelerators 0"] {
        let refused = simulate(folder.path(), &format!("fixed s.toml {bad}"));
        assert_eq!(refused.status.code(), Some(2), "{bad}");
    }
}

#[test]
fn below_the_peak_shares_of_the_goodput_are_run() {
    let folder = folder(SCENARIO);
    let found = json(folder.path(), "goodput s.toml --json --policy eager,orloj --sigma 0.1");
    let part = "part-load s.toml --json --policy eager,orloj --sigma 0.1 --share 0.5,1.5";
    let rows = json(folder.path(), part);
    let figure = |row: usize, key: &str| rows["part-load"][row][key].as_f64().expect("a number");
    for policy in [0, 1] {
        let goodput = found["goodput"][policy]["goodput r/s"].as_f64().expect("a rate");
        assert!((figure(2 * policy, "r/s") - goodput / 2.0).abs() < 1e-6, "{rows}");
        assert!(
            figure(2 * policy, "bad %") < 1.0 && figure(2 * policy + 1, "bad %") > 1.0,
            "{rows}"
        );
    }
    let same = json(folder.path(), "part-load s.toml --json --of 600 --share 0.5");
    assert_eq!(same["part-load"][0]["r/s"].as_f64(), Some(300.0), "{same}");
    for bad in ["--share 0", "--share 11", "--of 0"] {
        let refused = simulate(folder.path(), &format!("part-load s.toml {bad}"));
        assert_eq!(refused.status.code(), Some(2), "{bad}");
    }
}

#[test]
fn each_kind_of_noise_costs() {
    let quiet = folder(SCENARIO);
    let busy = "run s.toml --json --policy eager";
    let figures = |run: &Value| {
        let busy = run["accelerators"][0]["eager busy %"].as_f64().expect("a share");
        let bad = run["models"][0]["bad %"].as_f64().expect("a share");
        (busy, bad)
    };
    let before = figures(&json(quiet.path(), busy));
    let spells = |strikes: &str| {
        format!("[[noise.spells]]\nper_s = 3\nlength_ms = 50\nfactor = 4\nstrikes = \"{strikes}\"")
    };
    for noise in [
        "tail = { share = 0.02, factor = 5 }".to_owned(),
        spells("one"),
        spells("all"),
        "timer = { median_ms = 1, sigma = 1 }\nfirst_batch = 200".to_owned(),
    ] {
        let noisy = folder(&SCENARIO.replace("[load]", &format!("[noise]\n{noise}\n[load]")));
        let (busy, bad) = figures(&json(noisy.path(), busy));
        assert!(busy > before.0 && bad > before.1, "{noise}: {busy} {bad}, before {before:?}");
    }
    let early = figures(&json(quiet.path(), &format!("{busy} --bimodal 0.5:0.4")));
    assert!(early.0 < before.0 && early.1 <= before.1, "{early:?}, before {before:?}");
    let compared = json(quiet.path(), "compare --random 1 --seeds 1 --json --tail 0.05:3");
    let calm = json(quiet.path(), "compare --random 1 --seeds 1 --json");
    let share = |compared: &Value| compared["cases"][0]["consolidate"].as_f64().expect("a share");
    assert!(share(&compared) < share(&calm), "{compared} {calm}");
}

#[test]
fn random_scenarios_are_compared_and_replay() {
    let folder = folder(SCENARIO);
    let compared = json(folder.path(), "compare --random 2 --seed 5 --seeds 1 --json");
    let cases = compared["cases"].as_array().expect("a list");
    for case in cases {
        let share = case["consolidate"].as_f64().expect("a share");
        assert!((0.0..=1.1).contains(&share), "{case}");
    }
    let more = json(folder.path(), "compare --random 3 --seed 5 --seeds 1 --json");
    assert_eq!(more["cases"].as_array().map(|all| &all[..2]), Some(cases.as_slice()));
    let fixed = json(folder.path(), "compare --random 1 --seed 5 --seeds 1 --json --fixed 20");
    assert!(fixed["cases"][0]["fixed"].as_f64() > Some(0.0), "{fixed}");
    assert!(
        fixed["cases"][0]["knobs"].as_str().is_some_and(|k| k.starts_with("fixed:")),
        "{fixed}"
    );
    for bad in ["compare --random 0", "compare --random 1 --seeds 0"] {
        assert_eq!(simulate(folder.path(), bad).status.code(), Some(2), "{bad}");
    }
}

#[test]
fn the_median_of_several_seeds_counts() {
    let folder = folder(SCENARIO);
    let compared = json(folder.path(), "compare --random 1 --seed 5 --json");
    let case = &compared["cases"][0];
    let ends = ["consolidate lowest", "consolidate", "consolidate highest"]
        .map(|end| case[end].as_f64().expect("a share"));
    assert!(ends[0] < ends[1] && ends[1] < ends[2], "{case}");
    let ratios = compared["worst"][0]["by seed"].as_str().expect("a list");
    assert_eq!(ratios.split(' ').count(), 3, "{ratios}");
}

#[test]
fn a_sweep_prints_csv_and_draws() {
    let folder = folder(SCENARIO);
    let sweep = "sweep s.toml --parameter rate --values 300,600 --measure busy --csv --plot b.png";
    let output = simulate(folder.path(), sweep);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(text.lines().count(), 3, "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.starts_with("offered requests per second,consolidate busy\n300,"));
    let spread = json(folder.path(), &sweep.replace("--csv --plot b.png", "--json --seeds 1,2,3"));
    let ends = ["lowest", "busy", "highest"]
        .map(|end| spread["sweep"][0][format!("consolidate {end}")].as_f64().expect("a number"));
    assert!(ends[0] < ends[1] && ends[1] < ends[2], "{spread}");
    let drawn = std::fs::read(folder.path().join("b.png")).expect("a picture");
    assert!(drawn.starts_with(b"\x89PNG"));
}

#[test]
fn processes_that_fail_break_nothing() {
    let folder = folder(SCENARIO);
    let figures = json(folder.path(), "faults --json --seeds 1200 --seed 5 --scenario backends");
    let row = &figures["faults"][0];
    let count = |key: &str| row[key].as_u64().expect("a count");
    assert_eq!((row["scenario"].as_str(), count("seeds")), (Some("backends"), 1200));
    let ends = ["good", "late", "dropped", "failed", "timed out", "with their frontend"];
    assert_eq!(count("requests"), ends.map(count).iter().sum::<u64>(), "{row}");
    assert!(count("lost batches") > 100 && count("scheduled again") > 100, "{row}");
    let told = simulate(folder.path(), "faults --seed 6 --scenario schedulers --timeline");
    let told = String::from_utf8(told.stdout).expect("text");
    assert!(told.contains("epoch 1") && told.contains("--- "), "{told}");
    for (bad, word) in [("--seeds 0", "--seeds"), ("--scenario sharks", "sharks")] {
        let refused = simulate(folder.path(), &format!("faults {bad}"));
        assert_eq!(refused.status.code(), Some(2));
        let why = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(why.contains(word), "{why}");
    }
}

#[test]
fn a_timeline_is_drawn_and_traced() {
    let folder = folder(SCENARIO);
    let timeline = "timeline s.toml --policy consolidate,eager --plot t.svg --trace t.json";
    let output = simulate(folder.path(), timeline);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let svg = std::fs::read_to_string(folder.path().join("t.svg")).expect("a picture");
    for part in [">accelerator 1<", ">consolidate<", ">eager<", "prefers-color-scheme: dark"] {
        assert!(svg.contains(part), "{part}: {svg}");
    }
    assert!(svg.ends_with("</svg>\n"));
    let trace = std::fs::read(folder.path().join("t.json")).expect("a trace");
    let trace: Value = serde_json::from_slice(&trace).expect("JSON");
    let events = trace["traceEvents"].as_array().expect("events");
    for pid in [0, 1] {
        let batches = events.iter().filter(|event| event["ph"] == "X" && event["pid"] == pid);
        assert!(batches.count() > 3, "{pid}: {trace}");
    }
}

/// A scenario over these requests instead of generated ones.
fn recorded(name: &str, text: &str) -> TempDir {
    let folder = folder(&SCENARIO.replace("rate = 600", &format!("trace = \"{name}\"")));
    std::fs::write(folder.path().join(name), text).expect("a trace");
    folder
}

#[test]
fn a_trace_is_replayed_at_any_speed() {
    let line = |n: u32| format!("{{\"time_ms\": {}, \"model\": \"m\"}}\n", n * 10);
    let folder = recorded("t.jsonl", &(0..150).map(line).collect::<String>());
    // The first half second is warm-up.
    for rate in ["", " --rate 50", " --rate 600"] {
        let run = json(folder.path(), &format!("run s.toml --json{rate}"));
        assert_eq!(run["models"][0]["good"], 100, "{rate}: {run}");
    }
    let faster = json(folder.path(), "run s.toml --json --rate 200");
    let good = faster["models"][0]["good r/s"].as_f64().expect("a rate");
    assert!((good - 200.0).abs() < 2.0, "{faster}");
    let found = json(folder.path(), "goodput s.toml --json");
    let goodput = found["goodput"][0]["goodput r/s"].as_f64().expect("a rate");
    assert!((600.0..1500.0).contains(&goodput), "{found}");
    let gpus = json(folder.path(), "gpus s.toml --json --rate 300");
    assert_eq!(gpus["accelerators"][0]["accelerators"], 1, "{gpus}");
    let sweep = json(folder.path(), "sweep s.toml --json --parameter slo-ms --values 20,40");
    assert_eq!(sweep["sweep"].as_array().map(Vec::len), Some(2));
    assert!(sweep["sweep"][0].get("consolidate lowest").is_none(), "one seed has no spread");
    let rows = |n: u32| format!("{{\"time_ms\": {}, \"model\": \"m\", \"rows\": 2}}\n", n * 10);
    let double = recorded("t.jsonl", &(0..150).map(rows).collect::<String>());
    let halved = json(double.path(), "goodput s.toml --json");
    for yardstick in 0..3 {
        let of = |found: &Value| found["yardsticks"][yardstick]["r/s"].as_f64().expect("a rate");
        assert!((of(&found) / of(&halved) - 2.0).abs() < 0.01, "{found} {halved}");
    }
    let refused = simulate(folder.path(), "sweep s.toml --parameter cv --values 1,2");
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn an_azure_trace_is_replayed_with_as_many_requests_as_asked() {
    let trace = "HashOwner,HashApp,HashFunction,Trigger,1,2\n\
                 o1,a1,f1,http,3000,600\n\
                 o2,a2,f2,timer,600,0\n";
    let folder = recorded("t.csv", trace);
    let offered = |arguments: &str| {
        let run = json(folder.path(), &format!("run s.toml --json{arguments}"));
        run["models"][0]["offered"].as_f64().expect("a count")
    };
    // 3600 in the first minute: 120 in two seconds, give or take 11. On average there are 35 a
    // second, so ten times as many at 350.
    assert!((offered("") - 120.0).abs() < 55.0, "{}", offered(""));
    assert!((offered(" --rate 350") - 1200.0).abs() < 175.0, "{}", offered(" --rate 350"));
    let found = json(folder.path(), "goodput s.toml --json");
    assert!(found["goodput"][0]["of bound"].as_f64().is_some_and(|share| share > 0.1), "{found}");
    std::fs::write(folder.path().join("t.csv"), trace.replace("600,0", "600")).expect("a trace");
    let output = simulate(folder.path(), "run s.toml");
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("s.toml:11") && message.contains("t.csv:3"), "{message}");
}

#[test]
fn plans_follow_a_drift_unless_told_not_to() {
    let drift = "[[drift]]\nat_s = 0.4\nfactor = 1.6\n[load]";
    let folder = folder(&SCENARIO.replace("[load]", drift).replace("rate = 600", "rate = 300"));
    let bad = |arguments: &str| {
        let run = json(folder.path(), &format!("run s.toml --json --interval-s 0.5 {arguments}"));
        let intervals = run["intervals"].as_array().expect("a list");
        let share = |row: &Value| row["consolidate bad %"].as_f64().expect("a share");
        intervals.iter().map(share).sum::<f64>() / intervals.len() as f64
    };
    let (follows, fixed) = (bad(""), bad("--fixed-profiles"));
    assert!(follows < 5.0 && fixed > 20.0, "{follows} % and {fixed} %");
}

#[test]
fn intervals_add_up_to_the_run() {
    let day = "rate = 600\nday = { low = 0.2, high = 1.8, period_s = 2 }";
    let folder = folder(&SCENARIO.replace("rate = 600", day));
    let asked = "run s.toml --json --policy consolidate,shepherd --interval-s 0.3 --plot day.svg";
    let run = json(folder.path(), asked);
    let intervals = run["intervals"].as_array().expect("a list");
    assert_eq!(intervals.len(), 7);
    // The last one is cut short by the end of the run.
    let seconds = |at: usize| if at == 6 { 0.2 } else { 0.3 };
    let sum = |key: &str| {
        let row = |(at, row): (usize, &Value)| row[key].as_f64().expect(key) * seconds(at);
        intervals.iter().enumerate().map(row).sum::<f64>()
    };
    let offered = run["models"][0]["offered"].as_f64().expect("a count");
    assert!((sum("offered r/s") - offered).abs() < 1e-6, "{run}");
    for policy in ["consolidate", "shepherd"] {
        let rows = run["accelerators"].as_array().expect("a list").iter();
        let busy = rows.map(|row| row[format!("{policy} busy %")].as_f64().expect("a share"));
        let total = busy.sum::<f64>() / 100.0 * 2.0;
        let is = sum(&format!("{policy} busy"));
        assert!((is - total).abs() < 1e-6, "{policy}: {is} for {total}");
        assert!(intervals.iter().all(|row| row[format!("{policy} in use")].as_u64() <= Some(2)));
    }
    let drawn = std::fs::read_to_string(folder.path().join("day.svg")).expect("a picture");
    assert!(drawn.contains("offered, in 1000 requests per second"), "{drawn}");
}

#[test]
fn a_search_says_where_it_ended() {
    let slow = "[network]\ncontrol = { median_ms = 30 }\n[load]";
    let folder = folder(&SCENARIO.replace("[load]", slow));
    let found = json(folder.path(), "goodput s.toml --json");
    assert_eq!(found["goodput"][0]["goodput r/s"], 0.0, "{found}");
    assert!(found["goodput"][0]["limit"].to_string().contains("held nothing"), "{found}");
    let sole = recorded("t.jsonl", "{\"time_ms\": 600, \"model\": \"m\"}\n");
    let found = json(sole.path(), "goodput s.toml --json");
    assert!(found["goodput"][0]["limit"].to_string().contains("held all"), "{found}");
    let sole = simulate(sole.path(), "sweep s.toml --parameter accelerators --values 1,2");
    let noted = String::from_utf8_lossy(&sole.stderr).into_owned();
    assert!(noted.contains("accelerators = 1, consolidate: held all"), "{noted}");
}

#[test]
fn each_delay_can_be_swept() {
    let network = "[network]\ncontrol = { median_ms = 0.5 }\ndata = { median_ms = 0.1 }\n\
                   response = { median_ms = 0.5 }\n[load]";
    let folder = folder(&SCENARIO.replace("[load]", network));
    for delay in ["control", "data", "response"] {
        for (parameter, values) in [("ms", "0,1"), ("sigma", "0,1")] {
            let asked = format!("sweep s.toml --json --parameter {delay}-{parameter}");
            let swept = json(folder.path(), &format!("{asked} --values {values}"));
            let rates = swept["sweep"].as_array().expect("a list").iter();
            let rates = rates.map(|row| row["consolidate goodput r/s"].as_f64());
            let rates: Vec<_> = rates.collect();
            assert!(rates[0] > rates[1] && rates[1] > Some(0.0), "{asked}: {rates:?}");
        }
    }
}

/// What `symphony profile` keeps in its cache is what a scenario reads.
#[test]
fn a_measured_profile_is_simulated() {
    let folder = folder(&SCENARIO.replace(
        "alpha_ms = 1.053\nbeta_ms = 5.072\nslo_ms = 25",
        "profile = \"measured.toml\"\nslo_ms = 60000",
    ));
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models/digits");
    let profiled = Command::new(env!("CARGO_BIN_EXE_symphony"))
        .arg("profile")
        .arg(model)
        .args(["--cache-dir", "cache", "--plot", "digits.svg"])
        .current_dir(folder.path())
        .output()
        .expect("symphony runs");
    assert!(profiled.status.success(), "{}", String::from_utf8_lossy(&profiled.stderr));
    let cached: Vec<_> = std::fs::read_dir(folder.path().join("cache/profiles"))
        .expect("the cache directory")
        .map(|entry| entry.expect("its entry").path())
        .collect();
    let [cached] = cached.as_slice() else { panic!("one profile in {cached:?}") };
    std::fs::copy(cached, folder.path().join("measured.toml")).expect("a copy");
    let run = json(folder.path(), "run s.toml --json --rate 10");
    assert_eq!(run["models"][0]["good"], run["models"][0]["offered"], "{run}");
    // Measured times scatter: one that falls is as usable to simulate with as to serve with.
    let falling = "machine = \"here\"\n[[size]]\nrows = 1\np95_ns = 5000000\n\
                   [[size]]\nrows = 2\np95_ns = 4000000\n";
    std::fs::write(folder.path().join("measured.toml"), falling).expect("a profile");
    assert!(simulate(folder.path(), "run s.toml --rate 10").status.success());
}

/// Runs a scenario with one thing changed: exit code 2, the words in the message, and no file.
#[track_caller]
fn refused(change: (&str, &str), arguments: &str, words: &[&str]) {
    let folder = folder(&SCENARIO.replace(change.0, change.1));
    let order = "{\"time_ms\": 2, \"model\": \"m\"}\n{\"time_ms\": 1, \"model\": \"m\"}\n";
    let unknown = "{\"time_ms\": 2, \"model\": \"x\"}\n";
    let far = "{\"time_ms\": 1e300, \"model\": \"m\"}\n";
    let cut = "{\"time_ms\": 2, \"model\": \"m\"}\n{\"time_m";
    let early = "{\"time_ms\": 2, \"model\": \"m\"}\n";
    let falls = "[[size]]\nrows = 1\np95_ns = 9\n[[size]]\nrows = 2\np95_ns = 8\n";
    for (name, text) in [
        ("order.jsonl", order),
        ("unknown.jsonl", unknown),
        ("far.jsonl", far),
        ("cut.jsonl", cut),
        ("early.jsonl", early),
        ("empty.jsonl", ""),
        ("falls.toml", falls),
        ("minus.toml", "alpha_ms = -1\nbeta_ms = 1\nmax_batch = 4\n"),
    ] {
        std::fs::write(folder.path().join(name), text).expect("a file");
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
    refused(("rate = 600", ""), run, &["s.toml:10", "load.rate"]);
    refused(("accelerators = 2", "accelerators = 0"), run, &["s.toml:1", "accelerators", "4096"]);
    refused(("accelerators = 2", "accelerators = -1"), run, &["s.toml:1"]);
    let half = ["s.toml:1", "accelerators = 2.5", "a whole number"];
    refused(("accelerators = 2", "accelerators = 2.5"), run, &half);
    let early = ("rate = 600", "rate = 600\nsteps = [{ at_s = -1, factor = 1 }]");
    refused(early, run, &["s.toml:12", "load.steps.at_s = -1", "from 0"]);
    let drift = |keys: &'static str| ("[load]", keys);
    refused(drift("[[drift]]\nat_s = -1\nfactor = 2\n[load]"), run, &["s.toml:10", "drift.at_s"]);
    refused(drift("[[drift]]\nat_s = 1\nfactor = 0\n[load]"), run, &["drift.factor", "0.01"]);
    let absent = "[[drift]]\nat_s = 1\nfactor = 2\naccelerators = [2]\n[load]";
    refused(drift(absent), run, &["drift.accelerators", "no accelerator 2"]);
    let back = "[[drift]]\nat_s = 2\nfactor = 2\n[[drift]]\nat_s = 1\nfactor = 1\n[load]";
    refused(drift(back), run, &["s.toml:13", "order of time"]);
    let split = |text| ("[load]", text);
    refused(split("[split]\nshards = 0\nmessage_us = 5\n[load]"), run, &["s.toml:11", "shards"]);
    let slow = "[split]\nshards = 2\nmessage_us = 20000\n[load]";
    refused(split(slow), run, &["s.toml:12", "split.message_us", "10000"]);
    refused(split("[split]\nshards = 2\n[load]"), run, &["message_us"]);
    refused(("slo_ms = 25", "slo_ms = 6"), run, &["s.toml:9", "slo_ms", "l(1)"]);
    refused(("rate = 600", "process = \"normal\""), run, &["s.toml:11", "poisson", "gamma"]);
    refused(("rate = 600", "process = \"gamma\""), run, &["s.toml:11", "load.cv"]);
    let both =
        "rate = 600\nsteps = [{ at_s = 0, factor = 1 }]\nday = { low = 0, high = 1, period_s = 9 }";
    refused(("rate = 600", both), run, &["s.toml:13", "only one of steps, ramp and day"]);
    let weighted = (
        "rate = 600",
        "zipf = 0.9\n[[model]]\nname = \"n\"\nweight = 2\nslo_ms = 9\ntable_ms = [1]",
    );
    refused(weighted, run, &["s.toml:11", "load.zipf", "weights"]);
    refused(("rate = 600", "cv = 2"), run, &["s.toml:11", "gamma"]);
    refused(("alpha_ms = 1.053\nbeta_ms = 5.072", "table_ms = [3, 2]"), run, &["decreases"]);
    refused(("beta_ms = 5.072\n", ""), run, &["alpha_ms with beta_ms"]);
    let profile = |name| ("alpha_ms = 1.053\nbeta_ms = 5.072", name);
    refused(profile("profile = \"no.toml\""), run, &["s.toml:7", "model.profile", "no.toml"]);
    refused(profile("profile = \"falls.toml\""), run, &["s.toml:7", "falls.toml:4", "decreases"]);
    refused(profile("profile = \"minus.toml\""), run, &["minus.toml:1", "alpha_ms"]);
    let sweep = "[sweep]\nparameter = \"slo-ms\"\nvalues = [1]\nmeasure = \"good\"\n[load]";
    refused(("[load]", sweep), run, &["s.toml:12", "sweep.values", "l(1)"]);
    let sigma = "[sweep]\nparameter = \"data-sigma\"\nvalues = [1]\nmeasure = \"good\"\n[load]";
    refused(("[load]", sigma), run, &["s.toml:12", "data delay", "median_ms"]);
    refused(("seeds = [1]", "policies = [\"best\"]"), run, &["s.toml:2", "consolidate, adaptive"]);
    let more = |key| ("beta_ms = 5.072", key);
    let share = more("beta_ms = 5.072\nlow_share = 2");
    refused(share, run, &["s.toml:9", "model.low_share", "0 to 1"]);
    let both = more("beta_ms = 5.072\npriority = \"low\"\nlow_share = 0.5");
    refused(both, run, &["s.toml:10", "one or the other"]);
    let level = more("beta_ms = 5.072\npriority = \"urgent\"");
    refused(level, run, &["s.toml:9", "`high` or `low`"]);
    let late = more("beta_ms = 5.072\ntight = { share = 0.1, deadline_ms = 99 }");
    refused(late, run, &["s.toml:9", "model.tight", "slo_ms"]);
    let kept = ("seeds = [1]", "low_priority_share = -1");
    refused(kept, run, &["s.toml:2", "low_priority_share", "0 to 1"]);
    refused(("", ""), "run missing.toml", &["missing.toml"]);
}

#[test]
fn bad_noise_is_refused_by_line() {
    for (text, line, word) in [
        ("tail = { share = 2, factor = 3 }", 11, "noise.tail: give share from 0 to 1"),
        ("tail = { share = 0.1, factor = 0 }", 11, "factor from 0.01"),
        ("tail = { share = 0.1 }", 11, "factor"),
        ("bimodal = { share = 0.5, factor = 1.4 }", 11, "noise.bimodal: give share from 0 to 1"),
        ("first_batch = 0", 11, "noise.first_batch = 0"),
        ("timer = { median_ms = -1 }", 11, "noise.timer: give median_ms from 0"),
        ("timers = 1", 11, "timers"),
        ("[[noise.spells]]\nper_s = 1\nlength_ms = 9\nfactor = 2", 11, "strikes"),
        (
            "[[noise.spells]]\nstrikes = \"some\"\nper_s = 1\nlength_ms = 9\nfactor = 2",
            12,
            "`one` or `all`",
        ),
        (
            "[[noise.spells]]\nper_s = 0\nlength_ms = 9\nfactor = 2\nstrikes = \"all\"",
            12,
            "noise.spells.per_s = 0",
        ),
        (
            "[[noise.spells]]\nper_s = 1\nlength_ms = 9\nfactor = 0.5\nstrikes = \"one\"",
            14,
            "noise.spells.factor = 0.5: give a number from 1",
        ),
        (
            "timer = { median_ms = 1 }\n[split]\nshards = 2\nmessage_us = 5",
            11,
            "noise.timer: take it out or [split]",
        ),
    ] {
        let noise = format!("[noise]\n{text}\n[load]");
        refused(("[load]", &noise), "run s.toml", &[&format!("s.toml:{line}"), word]);
    }
}

#[test]
fn bad_traces_are_refused_by_line() {
    for (place, word) in [
        ("order.jsonl:2", "sort the trace"),
        ("unknown.jsonl:1", "unknown model"),
        ("far.jsonl:1", "time"),
        ("cut.jsonl:2", "complete"),
        ("missing.jsonl: cannot read", "missing"),
        ("empty.jsonl", "no request"),
    ] {
        let name = place.split(':').next().expect("a name");
        let trace = format!("trace = \"{name}\"");
        let words = ["s.toml:11", "load.trace", place, word];
        refused(("rate = 600", &trace), "timeline s.toml --plot out.svg", &words);
    }
    let early = ("rate = 600", "trace = \"early.jsonl\"");
    refused(early, "run s.toml", &["warm-up", "warmup_s"]);
    refused(early, "goodput s.toml", &["warm-up", "warmup_s"]);
    let zipf = ("rate = 600", "trace = \"early.jsonl\"\nzipf = 1");
    refused(zipf, "run s.toml", &["s.toml:12", "load.zipf", "remove it"]);
}

#[test]
fn bad_flags_are_refused_before_any_work() {
    let same = ("", "");
    refused(same, "run s.toml --rate 0", &["rate"]);
    refused(same, "run s.toml --policy best", &["consolidate"]);
    refused(same, "run s.toml --tail 0.1", &["--tail", "SHARE:FACTOR"]);
    refused(same, "run s.toml --bimodal 0.5:2", &["--bimodal", "factor from 0.01 to 1"]);
    refused(same, "sweep s.toml", &["--parameter"]);
    refused(same, "sweep s.toml --parameter accelerators --values 0", &["whole number"]);
    refused(same, "sweep s.toml --parameter slo-ms --values 1", &["l(1)"]);
    refused(same, "sweep s.toml --parameter rate --values 2,1", &["growing"]);
    refused(same, "run s.toml --interval-s 0 --plot out.svg", &["--interval-s"]);
    refused(same, "run s.toml --interval-s 1 --plot out.pdf", &["svg"]);
    refused(same, "run s.toml --plot out.svg", &["--interval-s"]);
    refused(same, "sweep s.toml --parameter control-sigma --values 9", &["control delay", "5"]);
    refused(same, "sweep s.toml --parameter message-us --values 5", &["[split]"]);
    refused(same, "timeline s.toml --plot missing/out.svg", &["missing"]);
    refused(same, "timeline s.toml --plot out.pdf", &["svg"]);
}
