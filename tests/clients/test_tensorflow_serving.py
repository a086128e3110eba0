"""TensorFlow Serving's REST form, as its documentation has it.

The examples are those of its page: half of the input and three, three inputs of three kinds by rows
and by columns, texts, and bytes.
"""

import base64
import json
import urllib.error
import urllib.request

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import models
from symphony import SOON_S


def half_plus_three():
    """One number per row, without a dimension of its own."""
    constants = [
        numpy_helper.from_array(np.array(value, np.float32), name)
        for name, value in (("half", 0.5), ("three", 3.0))
    ]
    return models.graph(
        [helper.make_node("Mul", ["x", "half"], ["halved"]),
         helper.make_node("Add", ["halved", "three"], ["y"])],
        inputs={"x": "FP32"},
        outputs={"y": "FP32"},
        shape=["batch"],
        constants=constants,
    )  # fmt: skip


def three_kinds():
    """A text, five whole numbers and a square of floats, given back."""
    shapes = {"tag": [], "signal": [5], "sensor": [2, 2]}
    types = {"tag": "BYTES", "signal": "INT64", "sensor": "FP32"}

    def declared(suffix):
        return [
            helper.make_tensor_value_info(
                name + suffix, models.DATATYPES[types[name]], ["batch", *shape]
            )
            for name, shape in shapes.items()
        ]

    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in shapes]
    made = helper.make_graph(nodes, "test", declared(""), declared("_out"))
    opset = helper.make_opsetid("", models.OPSET)
    return helper.make_model(made, opset_imports=[opset], ir_version=8)


def binary():
    """Bytes, given back under a name that says so."""
    text = TensorProto.STRING
    made = helper.make_graph(
        [helper.make_node("Identity", ["image"], ["image_bytes"])],
        "test",
        [helper.make_tensor_value_info("image", text, ["batch"])],
        [helper.make_tensor_value_info("image_bytes", text, ["batch"])],
    )
    opset = helper.make_opsetid("", models.OPSET)
    return helper.make_model(made, opset_imports=[opset], ir_version=8)


@pytest.fixture(scope="module")
def serving(tmp_path_factory):
    from symphony import USUAL, Server  # noqa: PLC0415 - beside its only use

    repository = tmp_path_factory.mktemp("models")
    models.write(repository, "half_plus_three", half_plus_three(), version=123, max_batch=8)
    models.write(repository, "kinds", three_kinds(), max_batch=8)
    models.write(repository, "binary", binary(), max_batch=8)
    with Server(repository, tmp_path_factory.mktemp("server"), config=USUAL) as server:
        yield server


def call(server, path, body=None):
    """The status and the answer of a GET, or of a POST where there is a body."""
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(
            f"http://{server.http}{path}", data=data, timeout=SOON_S
        ) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.mark.parametrize("version", ["", "/versions/123"])
def test_half_plus_three(serving, version):
    path = f"/v1/models/half_plus_three{version}"
    status, answer = call(serving, path)
    assert status == 200
    available = {"error_code": "OK", "error_message": ""}
    assert answer["model_version_status"] == [
        {"version": "123", "state": "AVAILABLE", "status": available}
    ]
    body = {"instances": [1.0, 2.0, 5.0]}
    assert call(serving, f"{path}:predict", body) == (200, {"predictions": [3.5, 4.0, 5.5]})
    body = {"signature_name": "serving_default", "inputs": [1.0, 2.0, 5.0]}
    assert call(serving, f"{path}:predict", body) == (200, {"outputs": [3.5, 4.0, 5.5]})
    status, answer = call(serving, f"{path}/metadata")
    assert status == 200
    assert answer["model_spec"]["version"] == "123"
    signature = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["x"]["dtype"] == "DT_FLOAT"


def test_named_inputs_by_rows_and_by_columns(serving):
    rows = [
        {"tag": "foo", "signal": [1, 2, 3, 4, 5], "sensor": [[1, 2], [3, 4]]},
        {"tag": "bar", "signal": [3, 4, 1, 2, 5], "sensor": [[4, 5], [6, 8]]},
    ]
    named = [{f"{name}_out": value for name, value in row.items()} for row in rows]
    path = "/v1/models/kinds:predict"
    assert call(serving, path, {"instances": rows}) == (200, {"predictions": named})
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    named = {f"{name}_out": value for name, value in columns.items()}
    assert call(serving, path, {"inputs": columns}) == (200, {"outputs": named})


def test_bytes_are_base64(serving):
    given = [{"b64": base64.b64encode(data).decode()} for data in (b"image bytes", "grün".encode())]
    for body, answer in (({"instances": given}, "predictions"), ({"inputs": given}, "outputs")):
        assert call(serving, "/v1/models/binary:predict", body) == (200, {answer: given})


def test_errors(serving):
    body = {"instances": [1.0, 5.0]}
    status, answer = call(serving, "/v1/models/half:predict", body)
    assert (status, list(answer)) == (404, ["error"])
    status, answer = call(serving, "/v1/models/half_plus_three/versions/7:predict", body)
    assert status == 404
    assert '"7"' in answer["error"]
    ragged = {"instances": [{"tag": "a", "signal": [1, 2, 3, 4], "sensor": [[1, 2], [3]]}]}
    status, answer = call(serving, "/v1/models/kinds:predict", ragged)
    assert status == 400
    assert "instances[0].sensor[1] has 1 elements" in answer["error"]
