//! Proves the embedded engine: runs the ONNX project's own tests on rten, derives the table of what
//! was correct, and compares it with the table that is checked in, which decides what may be loaded
//! on rten. onnxruntime, the reference, runs the same cases: what it gets wrong is no proof.
//!
//! Kernels differ between processors, so a case that was wrong where the table was generated may be
//! correct here. The checked-in table must not claim more than this run proves, but it may claim
//! less. `SYMPHONY_EXACT_TABLES=1` demands the same table, and `SYMPHONY_WRITE_TABLES=1` writes it.

#[path = "conformance/case.rs"]
mod case;
#[path = "conformance/prove.rs"]
mod prove;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, panic, thread};

use case::{Case, Verdict};
use prove::Sample;
use symphony_backend::engine::{Cores, GraphEngine};
use symphony_backend::engines::onnxruntime::Onnxruntime;
use symphony_backend::engines::rten::Rten;
use symphony_backend::operators::{self, OTHER, Table};
use symphony_onnx::OnnxModel;

/// The directory of generated files.
fn scratch() -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("conformance");
    fs::create_dir_all(&directory).expect("the target directory can be written");
    directory
}

fn run_python(script: &str, output: &Path) {
    let python = env::var("SYMPHONY_TEST_PYTHON").expect(
        "SYMPHONY_TEST_PYTHON names no Python with onnx, onnxruntime and skl2onnx: run \
         `cargo xtask test`, which prepares one",
    );
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance").join(script);
    let status =
        Command::new(&python).env("PYTHONDONTWRITEBYTECODE", "1").arg(&script).arg(output).status();
    let status = status.unwrap_or_else(|error| panic!("cannot start {python}: {error}"));
    assert!(status.success(), "{} failed: {status}", script.display());
}

/// The table that is checked in.
const TABLE: &str = "rten.txt";

/// The results of a case.
struct Outcome {
    verdict: Verdict,
    problem: String,
    /// Whether onnxruntime finds other values than the case expects.
    is_doubtful: bool,
}

fn run_all(cases: &[Case], engines: [&dyn GraphEngine; 2]) -> Vec<Outcome> {
    let run = |engine: &dyn GraphEngine| -> Vec<_> {
        cases.iter().map(|case| case.run(engine)).collect()
    };
    // Engines may panic on what they do not expect. A panic counts as a refusal and needs no trace.
    panic::set_hook(Box::new(|_| {}));
    let ran = thread::scope(|scope| {
        engines.map(|engine| scope.spawn(move || run(engine))).map(|thread| thread.join())
    });
    let _silent = panic::take_hook();
    let [rten, onnxruntime] = ran.map(|results| results.expect("running a case does not panic"));
    let both = rten.into_iter().zip(onnxruntime);
    both.map(|((verdict, problem), (reference, _))| Outcome {
        verdict,
        problem,
        is_doubtful: reference == Verdict::Wrong,
    })
    .collect()
}

/// Whether a case was correct on rten and its expected outputs are beyond doubt: for a derived case,
/// onnxruntime must have found the same.
fn is_proof(case: &Case, outcome: &Outcome) -> bool {
    outcome.verdict == Verdict::Right && (case.original || !outcome.is_doubtful)
}

/// What the cases show about rten, one sample per use of an operator.
fn samples(cases: &[Case], outcomes: &[Outcome]) -> Vec<Sample> {
    let mut samples = Vec::new();
    for (case, outcome) in cases.iter().zip(outcomes) {
        let is_right = is_proof(case, outcome);
        // What an engine refuses by itself is not proven, but it is no silent wrong answer either.
        let is_wrong = !is_right && outcome.verdict != Verdict::Refused;
        let usages = operators::usages(&case.model);
        // The case does not follow the operator's schema. An engine may accept it, but that proves
        // nothing.
        if usages.iter().flat_map(|usage| &usage.facets).any(|facet| facet.value == OTHER) {
            continue;
        }
        for usage in usages {
            let Some(versions) = usage.versions else { continue };
            let (name, operator, facets) = (case.name.clone(), usage.operator, usage.facets);
            samples.push(Sample { name, operator, versions, facets, is_right, is_wrong });
        }
    }
    samples
}

/// Makes the table that follows from the samples.
fn table(samples: &[Sample]) -> (String, Vec<String>) {
    let (rows, hopeless) = prove::rows(samples);
    let mut text =
        "# What rten is proven right on: written by the test `conformance`.\n".to_owned();
    for row in rows {
        text += &format!("{row}\n");
    }
    (text, hopeless)
}

/// Logs the cases that prove nothing, with the reasons.
fn log(cases: &[Case], outcomes: &[Outcome], hopeless: &[String]) {
    let mut log = String::new();
    for (case, outcome) in cases.iter().zip(outcomes) {
        if !is_proof(case, outcome) {
            log += &format!("{}\t{:?}\t{}\n", case.name, outcome.verdict, outcome.problem);
        }
    }
    for line in hopeless {
        log += &format!("hopeless\t{line}\n");
    }
    fs::write(scratch().join("rten.log"), log).expect("the log can be written");
}

/// The lines of a text that another text lacks.
fn missing(from: &str, of: &str) -> String {
    let lines: Vec<_> = of.lines().filter(|line| !from.lines().any(|l| l == *line)).collect();
    lines.join("\n")
}

/// A checked-in file of the tables.
fn checked_in(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/operators").join(name)
}

fn is_set(name: &str) -> bool {
    env::var_os(name).is_some()
}

/// Compares a generated file with the one checked in, or writes it when asked to.
fn check(name: &str, generated: &str) {
    let path = checked_in(name);
    if is_set("SYMPHONY_WRITE_TABLES") {
        fs::write(&path, generated).expect("the source can be written");
        return;
    }
    let known = fs::read_to_string(&path).expect("the table is checked in");
    assert!(
        known == generated,
        "{name} is not what the tests give; run with SYMPHONY_WRITE_TABLES=1 and read the \
         difference.\ngone:\n{}\nnew:\n{}",
        missing(generated, &known),
        missing(&known, generated),
    );
}

/// Compares the claims of the checked-in table with what this run proves.
fn check_claims(samples: &[Sample], generated: &str) {
    if is_set("SYMPHONY_WRITE_TABLES") || is_set("SYMPHONY_EXACT_TABLES") {
        return check(TABLE, generated);
    }
    let known = fs::read_to_string(checked_in(TABLE)).expect("the table is checked in");
    let parse = |text| Table::parse(text).unwrap_or_else(|line| panic!("{TABLE}: {line}"));
    let unproven = prove::unproven(&parse(&known), &parse(generated), samples);
    assert!(
        unproven.is_empty(),
        "{TABLE} claims what is not proven here; run with SYMPHONY_WRITE_TABLES=1 and read the \
         difference.\n{}",
        unproven.join("\n"),
    );
    if known != generated {
        println!("{TABLE} could claim otherwise here:\n{}", missing(&known, generated));
    }
}

#[test]
fn the_tables_say_what_the_tests_of_the_onnx_project_prove() {
    let path = scratch().join("cases");
    run_python("generate.py", &path);
    let cases = case::read(&path).expect("the generated cases can be read");
    let cores = Cores { accelerators: 1, threads: 1 };
    let rten = Rten::new(cores);
    let onnxruntime = Onnxruntime::open(None, cores).unwrap_or_else(|error| panic!("{error}"));
    let outcomes = run_all(&cases, [&rten, &onnxruntime]);
    let samples = samples(&cases, &outcomes);
    let (table, hopeless) = table(&samples);
    log(&cases, &outcomes, &hopeless);
    check_claims(&samples, &table);
}

#[test]
fn the_schemas_are_those_of_the_onnx_project() {
    let path = scratch().join("schemas.txt");
    run_python("schemas.py", &path);
    check("schemas.txt", &fs::read_to_string(&path).expect("the schemas were written"));
}

/// Classifiers that use what rten lacks or computes wrongly: LRN, and Softmax over several axes.
const BEYOND_RTEN: [&str; 4] =
    ["light_bvlc_alexnet", "light_inception_v1", "light_squeezenet", "light_zfnet512"];

#[test]
fn exports_of_common_tools_are_within_what_is_proven() {
    let directory = scratch().join("models");
    run_python("models.py", &directory);
    let mut refused = Vec::new();
    let files = fs::read_dir(&directory).expect("the models were written");
    for file in files {
        let path = file.expect("the directory can be read").path();
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a plain name");
        let model = OnnxModel::read(&path).unwrap_or_else(|error| panic!("{error}"));
        // rten has no operators of scikit-learn.
        if name.starts_with("sklearn_") || BEYOND_RTEN.contains(&name) {
            continue;
        }
        let unproven = operators::check(&model).err().unwrap_or_default();
        refused.extend(unproven.iter().map(|unproven| format!("{name}: {unproven}")));
    }
    refused.sort();
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}
