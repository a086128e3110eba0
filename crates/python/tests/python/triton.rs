//! Models written for Triton.

use crate::support::{Fixture, floats, pairs, spec};
use serde_json::json;
use symphony_python::{Kind, ModelId, ModelSpec, PythonError};
use symphony_wire::tensor::{DataType, Dim, Signature, TensorSpec, bytes_elements};

fn triton(
    fixture: &Fixture,
    text: &str,
    change: impl FnOnce(&mut ModelSpec),
) -> Result<ModelId, PythonError> {
    let mut spec = spec(&fixture.write(text), pairs());
    spec.kind = Kind::Triton;
    change(&mut spec);
    fixture.worker.load(spec).map(|loaded| loaded.id)
}

/// Doubles each request by itself, and fails those that begin with a negative number.
const DOUBLE: &str = "
import json, os
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        assert args['model_name'] == 'pairs' and args['model_version'] == '1', args
        assert args['model_instance_kind'] == 'CPU' and os.path.isdir(args['model_repository'])
        config = json.loads(args['model_config'])
        self.factor = int(config['parameters']['factor']['string_value'])
        output = pb_utils.get_output_config_by_name(config, 'y')
        self.dtype = pb_utils.triton_string_to_numpy(output['data_type'])
        assert pb_utils.get_input_config_by_name(config, 'x')['dims'] == [2]
        assert not pb_utils.using_decoupled_model_transaction_policy(config)
        self.path = os.path.join(args['model_repository'], 'finalized')

    def execute(self, requests):
        responses = []
        for request in requests:
            tensor = pb_utils.get_input_tensor_by_name(request, 'x')
            x = tensor.as_numpy()
            assert tensor.triton_dtype() == 11 and request.requested_output_names() == ['y']
            if x[0, 0] < 0:
                error = pb_utils.TritonError(f'{len(x)} rows are negative', pb_utils.TritonError.INVALID_ARG)
                responses.append(pb_utils.InferenceResponse(output_tensors=[], error=error))
                continue
            y = pb_utils.Tensor('y', (x * self.factor).astype(self.dtype))
            responses.append(pb_utils.InferenceResponse(output_tensors=[y]))
        return responses

    def finalize(self):
        open(self.path, 'w').close()
";

fn factor(spec: &mut ModelSpec) {
    let config = json!({"parameters": {"factor": {"string_value": "3"}}});
    spec.config = config.as_object().unwrap().clone();
}

#[test]
fn each_request_is_answered_by_itself_and_fails_by_itself() {
    let fixture = Fixture::new();
    let model = triton(&fixture, DOUBLE, factor).unwrap();
    let values = [1.0, 2.0, -1.0, 4.0, 5.0, 6.0, 7.0, 8.0];
    let answer = fixture.run_requests(model, &values, &[1, 2, 1]).unwrap();
    assert_eq!(answer.failed, [(1, "2 rows are negative".to_owned())]);
    let output = &answer.outputs[0];
    assert_eq!(output.shape, [4, 2]);
    assert_eq!(floats(&output.data), [3.0, 6.0, 0.0, 0.0, 0.0, 0.0, 21.0, 24.0]);
    let answer = fixture.run_requests(model, &[-1.0; 4], &[1, 1]).unwrap();
    assert!(answer.outputs.is_empty());
    assert_eq!(answer.failed.len(), 2);
    fixture.worker.unload(model);
    assert!(fixture.directory.path().join("model1/finalized").exists());
}

#[test]
fn answers_that_do_not_fit_fail_their_request_or_the_batch() {
    let fixture = Fixture::new();
    let returns = |value: &str| {
        let text = format!(
            "import numpy as np\nimport triton_python_backend_utils as pb\ndef answer(name, value):\n    return pb.InferenceResponse([pb.Tensor(name, value)])\nclass TritonPythonModel:\n    def execute(self, requests):\n        x = [r.inputs()[0].as_numpy() for r in requests]\n        return {value}\n"
        );
        let model = triton(&fixture, &text, |_| ()).unwrap();
        fixture.run_requests(model, &[1.0, 2.0, 3.0, 4.0], &[1, 1])
    };
    let failed = |value: &str| returns(value).unwrap().failed;
    let cases = [
        ("[answer('y', x[0]), answer('z', x[1])]", "expected outputs ['y'], got ['z']"),
        (
            "[answer('y', x[0]), answer('y', x[1][0])]",
            "output 'y': expected shape [1, 2] for 1 rows, got [2]",
        ),
        (
            "[answer('y', x[0]), answer('y', x[1] * np.float64(1) if 0 else x[1].astype('d'))]",
            "output 'y': expected FP32, got dtype float64: convert it with .astype(numpy.float32)",
        ),
        ("[answer('y', x[0]), None]", "expected an InferenceResponse, got NoneType"),
    ];
    for (value, expected) in cases {
        assert_eq!(failed(value), [(1, expected.to_owned())]);
    }
    for (value, expected) in [
        ("[answer('y', x[0])]", "execute has to return a list of 2 responses, it returned 1"),
        ("None", "execute has to return a list of 2 responses, it returned NoneType"),
        ("[answer('y', 3)] * 2", "TritonModelException: tensor 'y': expected an array, got int"),
        (
            "[pb.InferenceRequest(model_name='other', inputs=[])]",
            "calling another model from a model is not supported",
        ),
    ] {
        match returns(value) {
            Err(PythonError::Run { problem, rows: 2, .. }) => {
                assert!(problem.contains(expected), "{problem}")
            }
            other => panic!("{value}: {other:?}"),
        }
    }
}

#[test]
fn strings_of_many_requests_are_joined() {
    let fixture = Fixture::new();
    let text = "
import numpy as np
import triton_python_backend_utils as pb
class TritonPythonModel:
    def execute(self, requests):
        def answer(request):
            x = request.inputs()[0].as_numpy()
            words = np.array([[f'{row[0]:.0f}'.encode()] for row in x], dtype=object)
            return pb.InferenceResponse([pb.Tensor('words', words), pb.Tensor('last', x.T.copy())])
        return [answer(request) for request in requests]
";
    let outputs = vec![
        TensorSpec::of_rows("words", DataType::Bytes, &[1]),
        TensorSpec::new("last", DataType::Fp32, vec![Dim::Fixed(2), Dim::Batch]),
    ];
    let signature = Signature::fixed(pairs().inputs, outputs);
    let model = triton(&fixture, text, |spec| spec.signature = signature).unwrap();
    let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let answer = fixture.run_requests(model, &values, &[2, 1]).unwrap();
    assert_eq!(answer.outputs[0].shape, [3, 1]);
    assert_eq!(bytes_elements(&answer.outputs[0].data).unwrap(), [b"1", b"3", b"5"]);
    assert_eq!(answer.outputs[1].shape, [2, 3]);
    assert_eq!(floats(&answer.outputs[1].data), [1.0, 3.0, 5.0, 2.0, 4.0, 6.0]);
}

#[test]
fn what_is_not_supported_is_refused_at_load() {
    let fixture = Fixture::new();
    let refused = |text: &str, config: serde_json::Value| {
        let error =
            triton(&fixture, text, |spec| spec.config = config.as_object().unwrap().clone());
        error.unwrap_err().to_string()
    };
    let model = "class TritonPythonModel:\n    def execute(self, requests): return []\n";
    let decoupled = json!({"model_transaction_policy": {"decoupled": true}});
    assert!(refused(model, decoupled).contains("decoupled models"));
    assert!(refused("x = 1\n", json!({})).contains("the file has no class `TritonPythonModel`"));
    assert!(
        refused("class TritonPythonModel: pass\n", json!({})).contains("has no method `execute")
    );
    assert!(refused(DOUBLE, json!({})).contains("KeyError: 'parameters'"));
}
