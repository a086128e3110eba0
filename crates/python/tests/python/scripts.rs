//! What scripts are given, and what they may be.

use crate::support::{ECHO, Fixture, floats, pairs, spec};
use serde_json::json;
use symphony_python::{Batch, Input, PythonError};
use symphony_wire::tensor::{DataType, Dim, Signature, TensorSpec, bytes_contents, bytes_elements};

#[test]
fn a_function_load_returns_what_takes_a_batch() {
    let fixture = Fixture::new();
    let model = fixture.loaded(ECHO);
    assert_eq!(fixture.run(model, &[1.0, 2.0, 3.0, 4.0]).unwrap(), [1.0, 2.0, 3.0, 4.0]);
    let other =
        fixture.loaded("def load(config):\n    return lambda batch: {'y': batch['x'] * 2}\n");
    assert_eq!(fixture.run(other, &[1.0, 2.0]).unwrap(), [2.0, 4.0]);
    fixture.worker.unload(model);
    assert_eq!(fixture.run(model, &[1.0, 2.0]), Err(PythonError::NoModel));
    assert_eq!(fixture.run(other, &[1.0, 2.0]).unwrap(), [2.0, 4.0]);
}

#[test]
fn a_class_has_its_parameters_and_files_beside_it() {
    let fixture = Fixture::new();
    let text = "
import helper, numpy
class Model:
    def load(self, config):
        assert config.name == 'pairs' and config.device == 'cpu' and config.max_batch == 8
        assert config.inputs == [{'name': 'x', 'datatype': 'FP32', 'shape': ['rows', 2]}]
        self.factor = config['factor'] + helper.NUMBER
    def predict(self, batch):
        import late
        return [batch['x'] * numpy.float32(self.factor + late.NUMBER)]
";
    let mut models = Vec::new();
    for (number, expected) in [(1, 4.0), (10, 13.0)] {
        let file = fixture.write(text);
        // Both have modules of these names.
        std::fs::write(file.with_file_name("helper.py"), format!("NUMBER = {number}")).unwrap();
        std::fs::write(file.with_file_name("late.py"), "NUMBER = 1").unwrap();
        let mut spec = spec(&file, pairs());
        spec.config = json!({"factor": 2.0}).as_object().unwrap().clone();
        models.push((fixture.worker.load(spec).unwrap().id, expected, file));
    }
    for _ in 0..2 {
        for (model, expected, file) in &models {
            assert_eq!(fixture.run(*model, &[1.0, 2.0]).unwrap(), [*expected, 2.0 * expected]);
            let beside = std::fs::read_dir(file.parent().unwrap()).unwrap().count();
            assert_eq!(beside, 3, "Python writes nothing into the repository");
        }
    }
}

#[test]
fn inputs_are_where_the_server_wrote_them_and_may_be_changed() {
    let fixture = Fixture::new();
    let model = fixture.loaded(
        "def predict(batch):\n    x = batch['x']\n    x += 1\n    return x * 2\ndef load(config):\n    return predict\n",
    );
    let mut buffer = fixture.worker.buffer(64).unwrap();
    for (at, value) in [1.0f32, 2.0, 3.0, 4.0].into_iter().enumerate() {
        buffer[4 * at..4 * at + 4].copy_from_slice(&value.to_le_bytes());
    }
    let inputs = [Input { shape: &[2, 2], contents: &buffer[..16] }];
    let answer = fixture.worker.run(model, &Batch { inputs: &inputs, rows: &[2] }).unwrap();
    assert_eq!(floats(&answer.outputs[0].data), [4.0, 6.0, 8.0, 10.0]);
    assert_eq!(answer.outputs[0].shape, [2, 2]);
    assert_eq!(floats(&buffer[..16]), [2.0, 3.0, 4.0, 5.0], "the script changed them in place");
}

#[test]
fn every_type_comes_and_goes() {
    let fixture = Fixture::new();
    let of = |prefix: &str| -> Vec<TensorSpec> {
        let spec = |datatype: &DataType| {
            TensorSpec::of_rows(format!("{prefix}{datatype}"), *datatype, &[3])
        };
        DataType::ALL.iter().map(spec).collect()
    };
    let file = fixture.write(
        "def load(config):\n    return lambda batch: {'y' + name[1:]: values for name, values in batch.items()}\n",
    );
    let loaded = fixture.worker.load(spec(&file, Signature::fixed(of("x"), of("y")))).unwrap();
    assert_eq!(loaded.bf16, "ml_dtypes.bfloat16", "the tests' Python has it");
    let texts =
        bytes_contents([b"".as_slice(), b"\xff\0", b"longer than the others", b"a", b"b", b"c"]);
    let contents: Vec<Vec<u8>> = DataType::ALL
        .iter()
        .map(|datatype| match datatype.size() {
            None => texts.clone(),
            Some(_) if *datatype == DataType::Bool => vec![1, 0, 1, 1, 0, 0],
            Some(size) => (0..6 * size).map(|byte| u8::try_from(byte).unwrap()).collect(),
        })
        .collect();
    let inputs: Vec<_> =
        contents.iter().map(|contents| Input { shape: &[2, 3], contents }).collect();
    let answer = fixture.worker.run(loaded.id, &Batch { inputs: &inputs, rows: &[2] }).unwrap();
    for ((output, contents), datatype) in answer.outputs.iter().zip(&contents).zip(DataType::ALL) {
        assert_eq!(output.shape, [2, 3], "{datatype}");
        assert_eq!(&output.data[..], &contents[..], "{datatype}");
    }
}

#[test]
fn shapes_may_be_open_and_rows_may_stand_anywhere() {
    let fixture = Fixture::new();
    let inputs = vec![
        TensorSpec::new("state", DataType::Int64, vec![Dim::Fixed(2), Dim::Batch]),
        TensorSpec::new("text", DataType::Bytes, vec![Dim::Batch, Dim::Unknown]),
        TensorSpec::new("shared", DataType::Int64, vec![]),
    ];
    let outputs = vec![
        TensorSpec::new("sum", DataType::Int64, vec![Dim::Batch]),
        TensorSpec::new("text", DataType::Bytes, vec![Dim::Batch, Dim::Unknown]),
    ];
    let file = fixture.write(
        "
import numpy
def predict(batch):
    assert batch['shared'].shape == ()
    words = [[word.decode().upper() for word in row] + ['!'] for row in batch['text']]
    return batch['state'].sum(axis=0) * batch['shared'], numpy.array(words)
def load(config):
    return predict
",
    );
    let model = fixture.worker.load(spec(&file, Signature::fixed(inputs, outputs))).unwrap().id;
    let state: Vec<u8> = (1..=6i64).flat_map(i64::to_le_bytes).collect();
    let words = bytes_contents([b"a".as_slice(), b"b", b"c"]);
    let inputs = [
        Input { shape: &[2, 3], contents: &state },
        Input { shape: &[3, 1], contents: &words },
        Input { shape: &[], contents: &10i64.to_le_bytes() },
    ];
    let answer = fixture.worker.run(model, &Batch { inputs: &inputs, rows: &[1, 2] }).unwrap();
    let sums: Vec<u8> = [50i64, 70, 90].into_iter().flat_map(i64::to_le_bytes).collect();
    assert_eq!(&answer.outputs[0].data[..], &sums[..]);
    assert_eq!(answer.outputs[1].shape, [3, 2]);
    let words = bytes_elements(&answer.outputs[1].data).unwrap();
    assert_eq!(words, [b"A", b"!", b"B", b"!", b"C", b"!"]);
}

#[test]
fn a_batch_that_does_not_fit_is_refused_before_the_script_sees_it() {
    let fixture = Fixture::new();
    let model = fixture.loaded(ECHO);
    let cases: [(&[usize], usize, &[u32]); 5] = [
        (&[2, 2], 12, &[2]),
        (&[2, 2], 16, &[3]),
        (&[4], 16, &[4]),
        (&[usize::MAX, 2], 16, &[1]),
        (&[2, 2], 16, &[2, 0]),
    ];
    for (shape, bytes, rows) in cases {
        let contents = vec![0; bytes];
        let inputs = [Input { shape, contents: &contents }];
        let refused = fixture.worker.run(model, &Batch { inputs: &inputs, rows });
        assert!(matches!(refused, Err(PythonError::Unfit { .. })), "{shape:?}: {refused:?}");
    }
    let refused = fixture.worker.run(model, &Batch { inputs: &[], rows: &[1] });
    assert!(matches!(refused, Err(PythonError::Unfit { .. })));
    assert_eq!(fixture.run(model, &[1.0, 2.0]).unwrap(), [1.0, 2.0]);
}

#[test]
fn tensors_larger_than_any_arena_so_far_and_outputs_that_are_kept_are_right() {
    let fixture = Fixture::new();
    let of =
        |name: &str| vec![TensorSpec::new(name, DataType::Uint8, vec![Dim::Batch, Dim::Unknown])];
    let file = fixture.write("def load(config):\n    return lambda batch: batch['x'] + 1\n");
    let model = fixture.worker.load(spec(&file, Signature::fixed(of("x"), of("y")))).unwrap().id;
    let mut kept = Vec::new();
    for length in [1, 100, 3 << 20, 40 << 20, 0, 5 << 20, 70 << 20] {
        let value = u8::try_from(kept.len()).unwrap();
        let contents = vec![value; length];
        let inputs = [Input { shape: &[1, length], contents: &contents }];
        let answer = fixture.worker.run(model, &Batch { inputs: &inputs, rows: &[1] }).unwrap();
        kept.push((value + 1, length, answer.outputs[0].data.clone()));
    }
    for (value, length, data) in kept {
        assert!(data.len() == length && data.iter().all(|byte| *byte == value), "{length}");
    }
}
