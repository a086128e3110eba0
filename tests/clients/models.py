"""The models the tests serve, and what onnxruntime answers for them.

Writes model repositories; knows nothing of servers or protocols.
"""

import functools
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
OPSET = 17

# Far from what any test takes, so that deadlines are met where they are not the subject.
SLO_MS = 60_000

# Protocol name to ONNX element type.
DATATYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "BF16": TensorProto.BFLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}


def write(repository, name, model=None, *, version=1, tables="", **settings):
    """Writes one model: `settings` are keys of model.toml, but for those that are None; `tables` its
    tables as text."""
    folder = Path(repository) / name
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"slo_ms": SLO_MS} | settings
    # A TOML value of the kinds used here is written as in JSON.
    lines = [
        f"{key} = {json.dumps(value)}\n" for key, value in settings.items() if value is not None
    ]
    (folder / "model.toml").write_text("".join(lines) + tables)
    if model is not None:
        path = folder / str(version) / "model.onnx"
        path.parent.mkdir(exist_ok=True)
        onnx.save(model, path)
        return path
    return folder


def write_emulated(repository, name, *, alpha_ms, beta_ms, **settings):
    """Writes a model that takes `alpha_ms * rows + beta_ms` and answers `x` as `y`."""
    latency = f"alpha_ms = {alpha_ms}\nbeta_ms = {beta_ms}\n"
    return write_emulation(repository, name, latency, **settings)


def write_emulation(repository, name, latency, *, datatype="FP32", shape=(4,), **settings):
    """The same with the keys of its latency as text."""
    tables = f"\n[emulated]\n{latency}"
    for role, tensor in (("input", "x"), ("output", "y")):
        tables += f'\n[[{role}]]\nname = "{tensor}"\n'
        tables += f'datatype = "{datatype}"\nshape = {json.dumps(list(shape))}\n'
    return write(repository, name, tables=tables, engine="emulated", **settings)


def copy_digits(repository, **settings):
    """Writes the digits example with other settings than its own; returns its ONNX file."""
    path = write(repository, "digits", **settings) / "1" / "model.onnx"
    path.parent.mkdir(exist_ok=True)
    shutil.copy(EXAMPLES / "models/digits/1/model.onnx", path)
    return path


def digits():
    """The held-out images of the digits example as [images, 1, 8, 8], and what they show."""
    data = json.loads((EXAMPLES / "digits/test.json").read_text())
    images = np.array(data["pixels"], np.float32).reshape(-1, 1, 8, 8) / 16
    return images, np.array(data["labels"])


def simple():
    """The sum and the difference of two INT32 tensors of 16 elements."""
    return graph(
        [helper.make_node("Add", ["INPUT0", "INPUT1"], ["OUTPUT0"]),
         helper.make_node("Sub", ["INPUT0", "INPUT1"], ["OUTPUT1"])],
        inputs={"INPUT0": "INT32", "INPUT1": "INT32"},
        outputs={"OUTPUT0": "INT32", "OUTPUT1": "INT32"},
        shape=["batch", 16],
    )  # fmt: skip


def affine(scale=1.0):
    """One FP32 tensor of 3 features through a dense layer to 2, times `scale`."""
    weights = scale * np.array([[1, 2], [3, -4], [0.5, 0.25]], np.float32)
    bias = scale * np.array([0.5, -1], np.float32)
    return graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"])],
        inputs={"x": "FP32"},
        outputs={"y": "FP32"},
        shape=["batch", 3],
        output_shape=["batch", 2],
        constants=[numpy_helper.from_array(weights, "w"), numpy_helper.from_array(bias, "b")],
    )


def identity(datatype):
    """`x` as `y`, rows of 4 elements."""
    return graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        inputs={"x": datatype},
        outputs={"y": datatype},
        shape=["batch", 4],
    )


def words():
    """Two columns of words, one-hot and through a logistic regression, to a word."""
    from skl2onnx import to_onnx  # noqa: PLC0415 - slow to import
    from skl2onnx.common.data_types import StringTensorType  # noqa: PLC0415
    from sklearn import linear_model, pipeline, preprocessing  # noqa: PLC0415

    rows = np.array([["red", "red"], ["green", "blü"], ["blü", "red"], ["red", "green"]], object)
    fitted = pipeline.make_pipeline(
        preprocessing.OneHotEncoder(handle_unknown="ignore"), linear_model.LogisticRegression()
    ).fit(rows, ["stop", "go", "go", "stop"])
    return to_onnx(
        fitted,
        initial_types=[("x", StringTensorType([None, 2]))],
        options={id(fitted): {"zipmap": False}},
        target_opset={"": OPSET, "ai.onnx.ml": 3},
    )


def graph(nodes, *, inputs, outputs, shape, output_shape=None, constants=()):
    def declared(tensors, shape):
        return [
            helper.make_tensor_value_info(name, DATATYPES[datatype], shape)
            for name, datatype in tensors.items()
        ]

    made = helper.make_graph(
        nodes,
        "test",
        declared(inputs, shape),
        declared(outputs, output_shape or shape),
        constants,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(model)
    return model


@functools.cache
def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def reference(path, **inputs):
    """What onnxruntime answers: output name to array."""
    run = session(str(path))
    names = [output.name for output in run.get_outputs()]
    return dict(zip(names, run.run(names, inputs), strict=True))
