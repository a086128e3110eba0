//! The commands a newcomer tries first, run as they would run them. What they print is checked
//! for its shape, never for a time.

use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;

/// A repository with two models that only wait, so that nothing depends on an engine.
fn repository() -> TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for name in ["first", "second"] {
        let model = directory.path().join(name);
        std::fs::create_dir(&model).expect("a model's directory");
        let settings = "slo_ms = 2000\nmax_batch = 4\nengine = \"emulated\"\n\
             [emulated]\nalpha_ms = 1\nbeta_ms = 4\n\
             [[input]]\nname = \"x\"\ndatatype = \"FP32\"\nshape = [2]\n\
             [[output]]\nname = \"y\"\ndatatype = \"FP32\"\nshape = [2]\n";
        std::fs::write(model.join("model.toml"), settings).expect("a model.toml");
    }
    directory
}

fn symphony(arguments: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_symphony"))
        .args(arguments)
        .args(["--cache-dir", "cache"])
        .current_dir(folder)
        .output()
        .expect("symphony runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn demo_compares_the_modes_for_every_model() {
    let repository = repository();
    let models = repository.path().to_str().expect("a plain path");
    let folder = tempfile::tempdir().expect("a temporary directory");
    let arguments = ["demo", "--models", models, "--seconds", "1", "--load", "0.2"];
    let output = symphony(&arguments, folder.path());
    let printed = text(&output.stdout);
    assert!(output.status.success(), "{printed}{}", text(&output.stderr));
    for model in ["first", "second"] {
        for mode in ["adaptive", "consolidate", "eager"] {
            let row = format!("{model} {mode}");
            assert!(printed.contains(&row), "{row} in\n{printed}");
        }
    }
    assert!(printed.contains("accelerators busy"), "{printed}");
    assert!(printed.contains("see p50 and rows/batch"), "{printed}");
    // The same requests in every mode.
    let offered: Vec<&str> = printed
        .lines()
        .filter(|line| line.starts_with("| first "))
        .filter_map(|line| line.split('|').nth(3))
        .collect();
    assert_eq!(offered.len(), 3, "{printed}");
    assert!(offered.iter().all(|rate| *rate == offered[0]), "{printed}");
}

#[test]
fn demo_refuses_nonsense() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    for (arguments, named) in [
        (["demo", "--load", "0"], "--load"),
        (["demo", "--seconds", "0"], "--seconds"),
        (["demo", "--models", "missing"], "missing"),
    ] {
        let output = symphony(&arguments, folder.path());
        assert!(!output.status.success());
        assert!(text(&output.stderr).contains(named), "{}", text(&output.stderr));
    }
}

#[test]
fn profile_prints_a_table_and_writes_a_plot() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models/digits");
    let model = model.to_str().expect("a plain path");
    let output = symphony(&["profile", model, "--plot", "digits.svg"], folder.path());
    let printed = text(&output.stdout);
    assert!(output.status.success(), "{printed}{}", text(&output.stderr));
    assert!(printed.contains("p95") && printed.contains("l(b) ="), "{printed}");
    assert!(
        printed.contains("goodput r/s") && printed.contains("suggested: slo_ms ="),
        "{printed}"
    );
    let plot = std::fs::read_to_string(folder.path().join("digits.svg")).expect("a plot");
    assert!(plot.starts_with("<svg") && plot.contains("digits"));
}

#[test]
fn profile_names_a_model_that_is_not_there() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let output = symphony(&["profile", "no-such-model"], folder.path());
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no-such-model"), "{}", text(&output.stderr));
}
