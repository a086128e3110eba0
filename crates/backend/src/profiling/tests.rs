//! Profiling by a clock that moves only when a made-up model runs: nothing here is timed.

use super::fit::percentile;
use super::*;
use crate::batch::{Arena, Batch, Representation};
use crate::cache::Cache;
use crate::engine::Executable;
use crate::repository::{Fingerprint, FingerprintBuilder};
use crate::resident::Resident;
use crate::worker::Gaps;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use symphony_core::{Profile, Span, Time};
use symphony_wire::tensor::{DataType, OutputTensor, Signature, TensorSpec};

/// A model that takes a known time, and counts its runs.
struct Clockwork {
    clock: Arc<AtomicU64>,
    /// The time of a batch, from its rows and the number of the run.
    exec: Box<dyn FnMut(u32, u64) -> Span + Send>,
    runs: Arc<AtomicU64>,
    fails_at: Option<u32>,
}

impl Executable for Clockwork {
    fn run(&mut self, batch: &Batch<'_>) -> Result<Vec<OutputTensor>, EngineError> {
        let run = self.runs.fetch_add(1, Ordering::Relaxed) + 1;
        let rows = batch.rows();
        if self.fails_at == Some(rows) {
            return Err(EngineError::Library("broken".to_owned()));
        }
        self.clock.fetch_add((self.exec)(rows, run).0, Ordering::Relaxed);
        Ok(vec![])
    }
}

fn signature() -> Signature {
    let spec = |name: &str| TensorSpec::of_rows(name, DataType::Fp32, &[2]);
    Signature::fixed(vec![spec("x")], vec![spec("y")])
}

/// Runs `action` on a made-up model; returns its result, its runs and the time spent.
fn on_model<T>(
    rows_max: u32,
    exec: impl FnMut(u32, u64) -> Span + Send + 'static,
    fails_at: Option<u32>,
    action: impl FnOnce(&mut ProfilingTarget<'_>) -> T,
) -> (T, u64, Span) {
    let clock = Arc::new(AtomicU64::new(0));
    let runs = Arc::new(AtomicU64::new(0));
    let (of_model, counted) = (Arc::clone(&clock), Arc::clone(&runs));
    let model =
        Box::new(Clockwork { clock: of_model, exec: Box::new(exec), runs: counted, fails_at });
    let mut resident = Resident::new(Arc::new(signature()), rows_max, model).unwrap();
    let now = || Time(clock.load(Ordering::Relaxed));
    let rows = sample_rows(&signature(), &[], 3, 1);
    let samples = [SampledSize { size: signature().size(&[]), rows }];
    let result = action(&mut ProfilingTarget {
        resident: &mut resident,
        samples: &samples,
        now: &now,
        gaps: &Gaps::default(),
        accelerator: 0,
    });
    (result, runs.load(Ordering::Relaxed), Span(now().0))
}

fn measure(
    rows_max: u32,
    exec: impl FnMut(u32, u64) -> Span + Send + 'static,
) -> (Measured, u64, Span) {
    let (measured, runs, time) =
        on_model(rows_max, exec, None, |target| target.measure(&Effort::default()));
    (measured.unwrap(), runs, time)
}

fn rows(measured: &Measured) -> Vec<u32> {
    measured.cells.iter().map(|cell| cell.cell.rows).collect()
}

fn ms(ms: u64) -> Span {
    Span::from_millis(ms)
}

#[test]
fn percentiles_are_of_the_nearest_rank() {
    let times: Vec<Span> = (1..=20).map(ms).collect();
    assert_eq!(percentile(&times, 50), ms(10));
    assert_eq!(percentile(&times, 95), ms(19));
    assert_eq!(percentile(&times[..3], 95), ms(3));
    assert_eq!(percentile(&times[..1], 50), ms(1));
}

#[test]
fn a_quick_model_gets_all_its_runs_at_every_size() {
    let exec = |rows: u32, _| Span::from_micros(50) + Span::from_micros(10).times(rows.into());
    let (measured, runs, time) = measure(32, exec);
    assert_eq!(rows(&measured), rows_up_to(32));
    assert!(measured.cells.iter().all(|cell| cell.runs >= 20), "{measured:?}");
    // Run for longer than it needs, because stalls last as long as many of its runs.
    assert!(runs > 1000 && time >= ms(200) && time < ms(201), "{runs} runs, {time}");
    assert!(!measured.shortened);
    let (alpha, beta) = (Span::from_micros(10), Span::from_micros(50));
    assert_eq!(*measured.plan, Profile::linear(alpha, beta, 32).unwrap());
    assert!(measured.cells.iter().all(|cell| (cell.spread, cell.p95) == (0.0, cell.p50)));
}

#[test]
fn a_slow_model_is_measured_where_that_tells_most_and_foreseen_elsewhere() {
    for (per_row, expected) in [
        // Twenty runs of every size would take 17 s.
        (8, vec![1, 2, 3, 4, 6, 8, 12, 16, 24, 32]),
        (20, vec![1, 2, 3, 4, 6, 8, 32]),
        (60, vec![1, 2, 3, 4, 8]),
        (400, vec![1]),
        // Even the two runs of one row are longer than they should be.
        (2000, vec![1]),
    ] {
        let exec = move |rows: u32, _| ms(per_row).times(rows.into());
        let (measured, _, time) = measure(32, exec);
        assert!(measured.shortened, "{measured:?}");
        assert_eq!(rows(&measured), expected, "{per_row} ms a row");
        let least = ms(2 * per_row);
        assert!(time <= ms(1500).max(least), "{time} for {per_row} ms a row");
        assert_eq!(measured.plan.exec(32), ms(per_row * 32), "{per_row} ms a row");
    }
}

#[test]
fn a_model_slower_than_its_first_rows_promise_keeps_nearly_to_the_time() {
    let (measured, _, time) = measure(32, |rows, _| match rows {
        1 => ms(1),
        _ => ms(1000),
    });
    assert!(measured.shortened && time <= ms(2500), "{time}");
    assert_eq!(measured.plan.exec(1), ms(1));
}

/// What a run takes when no stall of the machine hits it.
fn smooth(rows: u32) -> Span {
    ms(8) + ms(1).times(rows.into())
}

#[test]
fn a_stall_of_the_machine_spoils_no_size() {
    let (expected, runs, _) = measure(16, |rows, _| smooth(rows));
    // Wherever it comes.
    for stall in [ms(13), ms(300)] {
        for hit in 2..=runs {
            let exec =
                move |rows, run| if run == hit { smooth(rows) + stall } else { smooth(rows) };
            let (measured, ..) =
                on_model(16, exec, None, |target| target.measure(&Effort::default()));
            let measured = measured.unwrap();
            for rows in 1..=16 {
                let (plan, calm) = (measured.plan.exec(rows), expected.plan.exec(rows));
                let off = plan.0.abs_diff(calm.0);
                assert!(off <= ms(2).0, "run {hit} + {stall}: {rows} rows count as {plan}");
            }
        }
    }
}

#[test]
fn one_stall_at_two_rows_is_not_handed_on_to_more_rows() {
    let cell = |rows, mean| {
        let cell = Cell { size: 1, rows };
        CellMeasurement { cell, mean, spread: 0.0, p50: mean, p95: mean, runs: 3 }
    };
    let stalled =
        [(1, 9), (2, 23), (4, 11), (8, 12), (16, 15)].map(|(rows, mean)| cell(rows, ms(mean)));
    let extents = vec![Extent { size: 1, rows_max: 16 }];
    let measured = Measured::new(stalled.to_vec(), extents, true, ProfileOrigin::Measured).unwrap();
    let plan = [1, 2, 4, 8, 16].map(|rows| measured.plan.exec(rows));
    assert_eq!(plan, [9, 11, 11, 12, 15].map(ms));
}

#[test]
fn plans_take_the_mean_and_its_spread_and_are_monotone() {
    // Half of the runs take twice as long, and three rows are faster than two.
    let (measured, ..) = measure(4, |rows, run| {
        let base = [ms(2), ms(6), ms(4), ms(8)][rows as usize - 1];
        if run % 9 < 4 { base.times(2) } else { base }
    });
    let off = |time: Span, aim: f64| (time.as_millis_f64() - aim).abs();
    for (cell, base) in measured.cells.iter().zip([2.0, 6.0, 4.0, 8.0]) {
        assert!(off(cell.mean, base * 1.45) < base * 0.1, "{cell:?}");
        assert!(off(cell.p95, base * 2.0) < 0.001, "{cell:?}");
        assert!((0.3..0.5).contains(&cell.spread), "{cell:?}");
        assert!((measured.plan.spread(cell.cell.rows) - cell.spread).abs() < 1e-3);
    }
    let plan = [1, 2, 3, 4].map(|rows| measured.plan.exec(rows));
    assert!(plan[1] == plan[2] && plan.is_sorted(), "{plan:?}");
    assert_eq!(measured.table().lines().count(), 5);
}

#[test]
fn a_tail_of_one_run_in_a_hundred_changes_neither_times_nor_spreads() {
    let even = |rows: u32, run: u64| smooth(rows) + Span::from_micros(run * 7 % 1000);
    let tail = move |rows: u32, run: u64| match run % 100 {
        7 => even(rows, run).times(3),
        _ => even(rows, run),
    };
    let [calm, tail] = [measure(8, even).0, measure(8, tail).0];
    for rows in 1..=8 {
        let [calm_exec, tail_exec] = [&calm, &tail].map(|measured| measured.plan.exec(rows));
        assert!(tail_exec.0.abs_diff(calm_exec.0) < calm_exec.0 / 50, "{rows}: {tail_exec}");
        let [calm, tail] = [&calm, &tail].map(|measured| measured.plan.spread(rows));
        assert!((tail - calm).abs() < 0.02, "{rows}: {tail} for {calm}");
    }
}

#[test]
fn a_model_without_batches_and_one_without_latency_are_measured() {
    let (measured, ..) = measure(1, |_, _| ms(20));
    assert_eq!((rows(&measured), measured.shortened), (vec![1], false));
    // A clock that is too coarse to see a run still advances.
    let (measured, ..) = measure(2, |_, run| if run % 100 == 0 { ms(1) } else { Span::ZERO });
    assert_eq!(measured.plan.exec(2), Span(1));
}

#[test]
fn an_engine_that_fails_is_an_error() {
    let measure = |target: &mut ProfilingTarget<'_>| target.measure(&Effort::default());
    let (result, ..) = on_model(8, |_, _| ms(1), Some(3), measure);
    assert_eq!(result.unwrap_err().to_string(), "measuring the model: broken");
}

#[test]
fn a_kept_profile_is_checked_where_that_takes_no_long_time() {
    let micros = |beta: u64, alpha: u64| {
        move |rows: u32, _| Span::from_micros(beta) + Span::from_micros(alpha).times(rows.into())
    };
    let (kept, ..) = measure(32, |rows, _| Span::from_micros(500 + 100 * u64::from(rows)));
    let (agrees, runs, _) = on_model(32, micros(500, 100), None, |target| target.agrees(&kept));
    assert!(agrees.unwrap());
    assert_eq!(runs, 3 * 6);
    let (single, ..) = measure(1, micros(500, 100));
    let (agrees, runs, _) = on_model(1, micros(500, 100), None, |target| target.agrees(&single));
    assert_eq!((agrees.unwrap(), runs), (true, 6));
    for (beta, alpha, expected) in [
        (900, 100, true),
        (300, 100, true),
        (1300, 100, false),
        (500, 250, false),
        (150, 40, false),
    ] {
        let (agrees, ..) = on_model(32, micros(beta, alpha), None, |target| target.agrees(&kept));
        assert_eq!(agrees.unwrap(), expected, "{beta} {alpha}");
    }
    // What lies below a fraction of a millisecond depends on what ran before; and two runs tell
    // nothing.
    let (quick, ..) = measure(1, micros(150, 0));
    let (agrees, ..) = on_model(1, micros(5, 0), None, |target| target.agrees(&quick));
    assert!(agrees.unwrap());
    let few = |runs| Measured {
        cells: kept.cells.iter().map(|cell| CellMeasurement { runs, ..*cell }).collect(),
        ..kept.clone()
    };
    for (runs, expected) in [(2, true), (3, false)] {
        let kept = few(runs);
        let (agrees, ..) = on_model(32, micros(5000, 0), None, |target| target.agrees(&kept));
        assert_eq!(agrees.unwrap(), expected, "{runs}");
    }
    // The largest batch of a slow model is not run to see whether it has changed.
    let (slow, ..) = measure(32, micros(0, 8000));
    let (agrees, _, time) = on_model(32, micros(0, 8000), None, |target| target.agrees(&slow));
    assert!(agrees.unwrap() && time <= ms(170), "{time}");
}

#[test]
fn a_check_is_not_deceived_by_other_work_on_the_machine() {
    let (kept, ..) = measure(4, |rows, _| ms(u64::from(rows)));
    let disturbed = |rows: u32, run| if run % 3 == 0 { ms(rows.into()) } else { ms(30) };
    let (agrees, ..) = on_model(4, disturbed, None, |target| target.agrees(&kept));
    assert!(agrees.unwrap());
}

#[test]
fn an_emulated_profile_is_known() {
    let profile = Arc::new(Profile::linear(ms(1), ms(5), 6).unwrap());
    let known = Measured::known(&profile);
    assert_eq!(rows(&known), [1, 2, 3, 4, 6]);
    assert_eq!(
        (known.origin, known.cells[4].p95, known.cells[4].runs),
        (ProfileOrigin::Known, ms(11), 0)
    );
    assert_eq!(known.cells[4].mean, ms(11));
}

fn content(text: &str) -> Fingerprint {
    FingerprintBuilder::default().text(text).finish()
}

fn key(machine: &Machine) -> ProfileKey<'_> {
    ProfileKey {
        model: "m",
        content: content("model"),
        extents: &[Extent { size: 2, rows_max: 4 }],
        engine: "rten",
        engine_version: "1",
        threads: 2,
        machine,
    }
}

fn machine() -> Machine {
    Machine { cpu: "a \"fast\" one".to_owned(), cores: 2 }
}

#[test]
fn a_kept_profile_reads_back_under_its_key_only() {
    let directory = tempfile::tempdir().unwrap();
    let cache = ProfileCache::new(&Cache::new(directory.path().join("made/when/needed")));
    let machine = machine();
    let (measured, ..) = measure(4, |rows, _| ms(3).times(rows.into()));
    assert_eq!(cache.read(&key(&machine)), None);
    cache.write(&key(&machine), &measured);
    let expected = Measured { origin: ProfileOrigin::Cached, ..measured };
    assert_eq!(cache.read(&key(&machine)), Some(expected.clone()));
    assert_eq!(cache.read(&ProfileKey { model: "other", ..key(&machine) }), Some(expected));
    let faster = Machine { cores: 4, ..machine.clone() };
    for other in [
        ProfileKey { content: content("changed"), ..key(&machine) },
        ProfileKey { extents: &[Extent { size: 2, rows_max: 8 }], ..key(&machine) },
        ProfileKey { extents: &[Extent { size: 3, rows_max: 4 }], ..key(&machine) },
        ProfileKey { engine: "onnxruntime", ..key(&machine) },
        ProfileKey { engine_version: "2", ..key(&machine) },
        ProfileKey { threads: 1, ..key(&machine) },
        key(&faster),
    ] {
        assert_eq!(cache.read(&other), None, "{other:?}");
    }
}

/// A cache that holds a good profile, and the path of its file.
fn kept(machine: &Machine) -> (tempfile::TempDir, ProfileCache, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let cache = ProfileCache::new(&Cache::new(directory.path().to_owned()));
    let (measured, ..) = measure(4, |rows, _| ms(3).times(rows.into()));
    cache.write(&key(machine), &measured);
    let path = cache.path(&key(machine));
    (directory, cache, path)
}

#[test]
fn a_damaged_profile_is_as_good_as_none_and_is_replaced() {
    let machine = machine();
    let (directory, cache, path) = kept(&machine);
    let good = fs::read_to_string(&path).unwrap();
    for bad in [
        String::new(),
        good[..good.len() / 2].to_owned(),
        "\0\u{1}".to_owned(),
        good.replace("format = 2", "format = 1"),
        good.replace("rows = 4", "rows = 5"),
        good.replace("rows = 2", "rows = 1"),
        good.replace("size = 2", "size = 3"),
        good.replace("p50_ns = 3000000", "p50_ns = 0"),
        good.replace("p50_ns = 3000000", "p50_ns = 4000000"),
        good.replace("mean_ns = 3000000", "mean_ns = 0"),
        good.replace("spread = 0.0", "spread = -0.5"),
        good.replace("spread = 0.0", "spread = inf"),
        good.replace("runs", "walks"),
        good[..good.find("[[cell]]").unwrap()].to_owned() + "cell = []",
    ] {
        assert_ne!(bad, good);
        fs::write(&path, &bad).unwrap();
        assert_eq!(cache.read(&key(&machine)), None, "{bad}");
    }
    let (measured, ..) = measure(4, |rows, _| ms(3).times(rows.into()));
    cache.write(&key(&machine), &measured);
    assert!(cache.read(&key(&machine)).is_some());
    let entries = fs::read_dir(directory.path().join("profiles")).unwrap();
    assert_eq!(entries.count(), 1, "no file is left beside it");
}

#[test]
fn a_profile_without_means_has_its_medians_and_what_the_percentiles_tell_of_the_spread() {
    let machine = machine();
    let (_directory, cache, path) = kept(&machine);
    let text = fs::read_to_string(&path).unwrap();
    let is_new = |line: &&str| line.starts_with("mean_ns") || line.starts_with("spread");
    let old: Vec<_> = text.lines().filter(|line| !is_new(line)).collect();
    // The 95th percentile of four rows is twice their median.
    let old = old.join("\n").replace("p95_ns = 12000000", "p95_ns = 24000000");
    fs::write(&path, old).unwrap();
    let read = cache.read(&key(&machine)).unwrap();
    assert_eq!([1, 4].map(|rows| read.plan.exec(rows)), [3, 12].map(ms));
    assert_eq!(read.plan.spread(1), 0.0);
    assert!((read.plan.spread(4) - 0.44).abs() < 0.01, "{}", read.plan.spread(4));
}

#[test]
fn a_cache_that_cannot_be_written_is_no_error() {
    let machine = machine();
    let directory = tempfile::tempdir().unwrap();
    let (measured, ..) = measure(4, |rows, _| ms(3).times(rows.into()));
    // A file stands where the directory should be.
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let cache = ProfileCache::new(&Cache::new(file));
    cache.write(&key(&machine), &measured);
    assert_eq!(cache.read(&key(&machine)), None);
    // A directory stands where the file should be.
    let cache = ProfileCache::new(&Cache::new(directory.path().to_owned()));
    fs::create_dir_all(cache.path(&key(&machine))).unwrap();
    cache.write(&key(&machine), &measured);
    assert_eq!(cache.read(&key(&machine)), None);
    let entries = fs::read_dir(directory.path().join("profiles")).unwrap();
    assert_eq!(entries.count(), 1, "no file is left beside it");
}

#[test]
fn samples_fit_every_datatype() {
    for datatype in DataType::ALL {
        let mut signature = signature();
        signature.inputs[0].datatype = datatype;
        let rows = sample_rows(&signature, &[], 4, 7);
        for representation in [Representation::Declared, Representation::Narrow] {
            let mut arena = Arena::new(Arc::new(signature.clone()), 4, representation).unwrap();
            assert_eq!(arena.assemble(rows.iter()), Ok(()), "{datatype}");
        }
        let again = sample_rows(&signature, &[], 4, 7);
        assert!(rows.iter().zip(&again).all(|(a, b)| a.tensors == b.tensors));
    }
}
