//! Profiling by a clock that moves only when a made-up model runs: nothing here is timed.

use super::*;
use crate::batch::{Arena, Batch, Representation};
use crate::engine::Executable;
use crate::repository::{Fingerprint, FingerprintBuilder};
use crate::resident::Resident;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use symphony_core::Time;
use symphony_wire::tensor::{DataType, OutputTensor, Signature, TensorSpec};

/// A model that takes a known time, and counts its runs.
struct Clockwork {
    clock: Arc<AtomicU64>,
    /// The time of a batch, from its rows and the number of the run.
    exec: fn(u32, u64) -> Span,
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
    exec: fn(u32, u64) -> Span,
    fails_at: Option<u32>,
    action: impl FnOnce(&mut ProfilingTarget<'_>) -> T,
) -> (T, u64, Span) {
    let clock = Arc::new(AtomicU64::new(0));
    let runs = Arc::new(AtomicU64::new(0));
    let (of_model, counted) = (Arc::clone(&clock), Arc::clone(&runs));
    let model = Box::new(Clockwork { clock: of_model, exec, runs: counted, fails_at });
    let mut resident = Resident::new(Arc::new(signature()), rows_max, model).unwrap();
    let now = || Time(clock.load(Ordering::Relaxed));
    let result = action(&mut ProfilingTarget {
        resident: &mut resident,
        rows: sample_rows(&signature(), &[], 3, 1),
        now: &now,
    });
    (result, runs.load(Ordering::Relaxed), Span(now().0))
}

fn measure(rows_max: u32, exec: fn(u32, u64) -> Span) -> (Measured, u64, Span) {
    let (measured, runs, time) =
        on_model(rows_max, exec, None, |target| target.measure(&Effort::default()));
    (measured.unwrap(), runs, time)
}

fn rows(measured: &Measured) -> Vec<u32> {
    measured.sizes.iter().map(|size| size.rows).collect()
}

fn ms(ms: u64) -> Span {
    Span::from_millis(ms)
}

#[test]
fn sizes_are_powers_of_two_those_between_and_the_last() {
    for (rows_max, expected) in [
        (1, vec![1]),
        (2, vec![1, 2]),
        (3, vec![1, 2, 3]),
        (5, vec![1, 2, 3, 4, 5]),
        (32, vec![1, 2, 3, 4, 6, 8, 12, 16, 24, 32]),
        (33, vec![1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 33]),
    ] {
        assert_eq!(sizes_up_to(rows_max), expected);
    }
    assert_eq!(sizes_up_to(u32::MAX).last(), Some(&u32::MAX));
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
    let (measured, _, time) = measure(32, |rows, _| ms(5) + ms(1).times(u64::from(rows)));
    assert_eq!(rows(&measured), sizes_up_to(32));
    assert!(measured.sizes.iter().all(|size| size.runs >= 20), "{measured:?}");
    assert!(measured.sizes.iter().all(|size| size.p50.times(size.runs.into()) >= ms(200)));
    assert!(!measured.shortened && time < Span::from_secs(30));
    assert_eq!(*measured.plan, Profile::linear(ms(1), ms(5), 32).unwrap());
    assert_eq!(measured.plan, measured.typical);
    assert_eq!(measured.jitter.to_bits(), 0f64.to_bits());
}

#[test]
fn a_slow_model_shares_the_time() {
    // 20 runs of every size would take 103 s.
    let (measured, _, time) = measure(32, |rows, _| ms(48).times(rows.into()));
    assert_eq!(rows(&measured), sizes_up_to(32));
    assert!(measured.shortened);
    assert!(measured.sizes.iter().all(|size| (3..20).contains(&size.runs)), "{measured:?}");
    assert!(time <= Span::from_secs(30), "{time}");
    assert_eq!(measured.plan.exec(32), ms(48 * 32));
}

#[test]
fn a_slower_model_is_measured_at_fewer_sizes() {
    let (measured, _, time) = measure(32, |rows, _| ms(100).times(rows.into()));
    assert_eq!(rows(&measured), [1, 2, 4, 8, 16, 32]);
    assert!(measured.shortened && time <= Span::from_secs(30), "{time}");
    // There is barely time for the two ends.
    let (measured, _, time) = measure(8, |rows, _| ms(1000).times(rows.into()));
    assert_eq!((rows(&measured), measured.shortened), (vec![1, 8], true));
    assert!(time <= Span::from_secs(30), "{time}");
    // Even one run of each is too much, so there are only these.
    let (measured, runs, time) = measure(32, |rows, _| ms(1000).times(rows.into()));
    assert_eq!((rows(&measured), measured.shortened, runs), (vec![1, 32], true, 3));
    assert_eq!(time, Span::from_secs(34));
    assert_eq!(measured.plan.exec(16), ms(16_000));
}

#[test]
fn a_model_slower_than_its_ends_promise_keeps_to_the_time() {
    let (measured, _, time) = measure(32, |rows, _| match rows {
        1 | 32 => ms(10),
        _ => ms(4000),
    });
    assert!(measured.shortened && time <= Span::from_secs(40), "{time}");
    assert_eq!(rows(&measured).first().zip(rows(&measured).last()), Some((&1, &32)));
}

#[test]
fn plans_take_the_95th_percentile_and_are_monotone() {
    // Every tenth run takes twice as long, and three rows are faster than two.
    let (measured, ..) = measure(4, |rows, run| {
        let base = [ms(10), ms(30), ms(20), ms(40)][rows as usize - 1];
        if run % 10 == 0 { base.times(2) } else { base }
    });
    for size in &measured.sizes {
        assert_eq!(size.p95, size.p50.times(2));
    }
    let table = |profile: &Profile| [1, 2, 3, 4].map(|rows| profile.exec(rows));
    assert_eq!(table(&measured.typical), [ms(10), ms(30), ms(30), ms(40)]);
    assert_eq!(table(&measured.plan), [ms(20), ms(60), ms(60), ms(80)]);
    assert!((measured.jitter - 1.0).abs() < 1e-9);
    assert_eq!(measured.table().lines().count(), 5);
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
fn a_kept_profile_is_checked_at_three_sizes() {
    let exec: fn(u32, u64) -> Span = |rows, _| ms(5) + ms(1).times(u64::from(rows));
    let (kept, ..) = measure(32, exec);
    let (agrees, runs, _) = on_model(32, exec, None, |target| target.agrees(&kept));
    assert!(agrees.unwrap());
    assert_eq!(runs, 3 * 6);
    let (single, ..) = measure(1, exec);
    let (agrees, runs, _) = on_model(1, exec, None, |target| target.agrees(&single));
    assert_eq!((agrees.unwrap(), runs), (true, 6));
    for (changed, expected) in [
        ((|rows, _| ms(6) + ms(1).times(rows.into())) as fn(u32, u64) -> Span, true),
        (|rows, _| ms(8) + ms(1).times(rows.into()), false),
        (|rows, _| ms(5) + Span::from_micros(600).times(rows.into()), false),
        (|rows, _| if rows == 6 { ms(20) } else { ms(5 + u64::from(rows)) }, false),
    ] {
        let (agrees, ..) = on_model(32, changed, None, |target| target.agrees(&kept));
        assert_eq!(agrees.unwrap(), expected);
    }
}

#[test]
fn an_emulated_profile_is_known() {
    let profile = Arc::new(Profile::linear(ms(1), ms(5), 6).unwrap());
    let known = Measured::known(&profile);
    assert_eq!(rows(&known), [1, 2, 3, 4, 6]);
    assert_eq!(
        (known.origin, known.sizes[4].p95, known.sizes[4].runs),
        (ProfileOrigin::Known, ms(11), 0)
    );
}

fn content(text: &str) -> Fingerprint {
    FingerprintBuilder::default().text(text).finish()
}

fn key(machine: &Machine) -> ProfileKey<'_> {
    ProfileKey {
        model: "m",
        content: content("model"),
        rows_max: 4,
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
    let cache = ProfileCache::new(directory.path().join("made/when/needed"));
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
        ProfileKey { rows_max: 8, ..key(&machine) },
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
    let cache = ProfileCache::new(directory.path().to_owned());
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
        good.replace("format = 1", "format = 2"),
        good.replace("rows = 4", "rows = 5"),
        good.replace("rows = 2", "rows = 1"),
        good.replace("p50_ns = 3000000", "p50_ns = 0"),
        good.replace("p50_ns = 3000000", "p50_ns = 4000000"),
        good.replace("runs", "walks"),
        good[..good.find("[[size]]").unwrap()].to_owned() + "size = []",
    ] {
        assert_ne!(bad, good);
        fs::write(&path, &bad).unwrap();
        assert_eq!(cache.read(&key(&machine)), None, "{bad}");
    }
    let (measured, ..) = measure(4, |rows, _| ms(3).times(rows.into()));
    cache.write(&key(&machine), &measured);
    assert!(cache.read(&key(&machine)).is_some());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no file is left beside it");
}

#[test]
fn a_cache_that_cannot_be_written_is_no_error() {
    let machine = machine();
    let directory = tempfile::tempdir().unwrap();
    let (measured, ..) = measure(4, |rows, _| ms(3).times(rows.into()));
    // A file stands where the directory should be.
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let cache = ProfileCache::new(file);
    cache.write(&key(&machine), &measured);
    assert_eq!(cache.read(&key(&machine)), None);
    // A directory stands where the file should be.
    let cache = ProfileCache::new(directory.path().to_owned());
    fs::create_dir(cache.path(&key(&machine))).unwrap();
    cache.write(&key(&machine), &measured);
    assert_eq!(cache.read(&key(&machine)), None);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "no file is left beside it");
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
