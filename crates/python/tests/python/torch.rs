//! Models of torch. Its package is several gigabytes, so these tests need `SYMPHONY_TEST_TORCH`, a
//! Python that has it, and say that they did nothing where it is not set.

use crate::support::{Fixture, floats, pairs, spec};
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use symphony_python::{Batch, Input, Interpreter, Kind, ModelSpec, PythonError};
use symphony_wire::tensor::{DataType, Dim, Signature, TensorSpec};

fn torch() -> Option<PathBuf> {
    let python = env::var_os("SYMPHONY_TEST_TORCH").map(PathBuf::from);
    if python.is_none() {
        eprintln!("skipped: SYMPHONY_TEST_TORCH names no Python with torch and numpy");
    }
    python
}

/// Runs a Python program that writes a model's file.
fn made(python: &Path, fixture: &Fixture, program: &str) -> PathBuf {
    let file = fixture.write("").with_file_name("model.pt");
    let module = "import sys, torch\nclass Double(torch.nn.Module):\n    def forward(self, x):\n        return x * 2\n";
    // TorchScript reads the source of what it compiles.
    let source = file.with_file_name("make.py");
    std::fs::write(&source, format!("{module}{program}")).unwrap();
    assert!(Command::new(python).arg(&source).arg(&file).status().unwrap().success());
    file
}

fn runs(fixture: &Fixture, spec: ModelSpec) {
    let model = fixture.worker.load(spec).unwrap().id;
    for rows in [1usize, 3, 1, 8] {
        let values: Vec<f32> = (0u16..).take(2 * rows).map(f32::from).collect();
        let doubled: Vec<f32> = values.iter().map(|value| value * 2.0).collect();
        assert_eq!(fixture.run(model, &values).unwrap(), doubled);
    }
}

#[test]
fn torchscript_exported_and_scripted_modules_run() {
    let Some(python) = torch() else { return };
    let fixture = Fixture::of(Interpreter::installed(&python), |_| ());
    let file = made(&python, &fixture, "torch.jit.save(torch.jit.script(Double()), sys.argv[1])");
    runs(&fixture, ModelSpec { kind: Kind::TorchScript, ..spec(&file, pairs()) });
    let file = made(
        &python,
        &fixture,
        "rows = torch.export.Dim('rows', min=1, max=64)\nprogram = torch.export.export(Double(), (torch.ones(3, 2),), dynamic_shapes=({0: rows},))\ntorch.export.save(program, sys.argv[1] + '2')\nimport os; os.rename(sys.argv[1] + '2', sys.argv[1])",
    );
    runs(&fixture, ModelSpec { kind: Kind::TorchExport, ..spec(&file, pairs()) });
    let script = "import torch\nclass Double(torch.nn.Module):\n    def forward(self, x):\n        return {'y': x * 2}\ndef load(config):\n    return Double().to(config.device)\n";
    runs(&fixture, spec(&fixture.write(script), pairs()));
    let script = "import torch\ndef load(config):\n    return lambda batch: torch.from_numpy(batch['x']).mul_(2)\n";
    runs(&fixture, spec(&fixture.write(script), pairs()));
}

#[test]
fn bf16_and_options_that_cannot_be() {
    let Some(python) = torch() else { return };
    let fixture = Fixture::of(Interpreter::installed(&python), |_| ());
    let of =
        |name: &str| vec![TensorSpec::new(name, DataType::Bf16, vec![Dim::Batch, Dim::Fixed(2)])];
    let script = "import torch\nclass Double(torch.nn.Module):\n    def forward(self, x):\n        assert x.dtype == torch.bfloat16\n        return x * 2\ndef load(config):\n    return Double()\n";
    let bf16 = spec(&fixture.write(script), Signature::fixed(of("x"), of("y")));
    let model = fixture.worker.load(bf16).unwrap().id;
    let contents: Vec<u8> =
        [1.0f32, 3.0].iter().flat_map(|value| value.to_le_bytes()[2..].to_vec()).collect();
    let inputs = [Input { shape: &[1, 2], contents: &contents }];
    let answer = fixture.worker.run(model, &Batch { inputs: &inputs, rows: &[1] }).unwrap();
    let widened: Vec<u8> =
        answer.outputs[0].data.chunks(2).flat_map(|two| [0, 0, two[0], two[1]]).collect();
    assert_eq!(floats(&widened), [2.0, 6.0]);

    let refused = |change: fn(&mut ModelSpec)| {
        let mut spec = spec(&fixture.write(script), pairs());
        change(&mut spec);
        match fixture.worker.load(spec) {
            Err(PythonError::Load { problem, .. }) => problem,
            other => panic!("{other:?}"),
        }
    };
    let graphs = refused(|spec| spec.cuda_graphs = true);
    assert_eq!(graphs, "cuda_graphs = true needs a CUDA device, not cpu");
    let none = refused(|spec| spec.kind = Kind::TorchScript);
    assert!(none.contains("Error"), "{none}");
}

#[test]
fn a_module_is_compiled_where_that_is_asked_for() {
    let Some(python) = torch() else { return };
    let fixture = Fixture::of(Interpreter::installed(&python), |_| ());
    let script = "import torch\ndef load(config):\n    return torch.nn.Sequential(torch.nn.Identity(), Double())\nclass Double(torch.nn.Module):\n    def forward(self, x):\n        assert torch.compiler.is_compiling()\n        return x * 2\n";
    runs(&fixture, ModelSpec { compile: true, ..spec(&fixture.write(script), pairs()) });
}
