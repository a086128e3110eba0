"""Requests choose their sizes: open dimensions, rows along any axis, more rows than a batch takes,
inputs that are shared, repeated or left out, and outputs without rows.

Every answer is what onnxruntime gives for that request alone, whatever else shared its batch.
"""

import contextlib
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from onnx import TensorProto, helper, numpy_helper
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

import exported
import models
import wire
from symphony import IN_FLIGHT, SOON_S, USUAL, Server, eventually

ROWS_MAX = 8
REQUEST_ROWS_MAX = 64
SEQUENCE_MAX = 64
# Requests that are under way at the same time.
TOGETHER = 12
CLIENTS = [tritonclient.http, tritonclient.grpc]


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Model name to ONNX file."""
    repository = tmp_path_factory.mktemp("models")

    def write(name, model, **settings):
        return models.write(repository, name, model, max_batch=ROWS_MAX, **settings)

    def shared(name, source, tables="", **settings):
        path = models.write(repository, name, None, max_batch=ROWS_MAX, tables=tables, **settings)
        path = path / "1" / "model.onnx"
        path.parent.mkdir()
        path.write_bytes((exported.EXPORTS / source).read_bytes())
        return path

    padded = "pad = { input_ids = 0, attention_mask = 0 }\n"
    padded += f"max_size = {{ sequence = {SEQUENCE_MAX} }}\n"
    return {
        "encoder": shared("encoder", "encoder_dyn.onnx", padded),
        "state": shared("state", "state_axis1.onnx", "max_size = { sequence = 600 }\n"),
        "score": write("score", score(), broadcast=["user"]),
        "found": write("found", found()),
        "affine": write("affine", models.affine()),
        "single": write("single", single()),
    }


@pytest.fixture(scope="module")
def server(paths, tmp_path_factory):
    repository = paths["encoder"].parents[2]
    config = f"[server]\nrequest_rows_max = {REQUEST_ROWS_MAX}\n{USUAL}"
    with Server(repository, tmp_path_factory.mktemp("server"), config=config) as server:
        yield server


def value(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def made(nodes, inputs, outputs, constants=()):
    graph = helper.make_graph(nodes, "test", inputs, outputs, constants)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", models.OPSET)], ir_version=8
    )


def score():
    """Items of one user: the product of both, and a weight that a request may leave out."""
    weight = numpy_helper.from_array(np.array([2.0], np.float32), "weight")
    nodes = [
        helper.make_node("Mul", ["user", "item"], ["both"]),
        helper.make_node("Mul", ["both", "weight"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "axis"], ["score"], keepdims=0),
    ]
    rows = [value("user", ["batch", 4]), value("item", ["batch", 4]), value("weight", [1])]
    axis = numpy_helper.from_array(np.array([1], np.int64), "axis")
    return made(nodes, rows, [value("score", ["batch"])], [weight, axis])


def found():
    """The rows of `boxes` whose first column is positive, and how many there are."""
    nodes = [
        helper.make_node("Gather", ["boxes", "first"], ["scores"], axis=1),
        helper.make_node("Greater", ["scores", "zero"], ["kept"]),
        helper.make_node("Compress", ["boxes", "kept"], ["found"], axis=0),
        helper.make_node("Cast", ["kept"], ["ones"], to=TensorProto.INT64),
        helper.make_node("ReduceSum", ["ones"], ["count"], keepdims=0),
    ]
    constants = [
        numpy_helper.from_array(np.array(0, np.int64), "first"),
        numpy_helper.from_array(np.array(0, np.float32), "zero"),
    ]
    outputs = [value("found", ["kept", 7]), value("count", [], TensorProto.INT64)]
    return made(nodes, [value("boxes", [5, 7])], outputs, constants)


def single():
    """A model without a batch dimension."""
    return made([helper.make_node("Neg", ["x"], ["y"])], [value("x", [3])], [value("y", [3])])


def encoder_request(rng, rows, length):
    return {
        "input_ids": rng.integers(0, 100, (rows, length)),
        "attention_mask": np.ones((rows, length), np.int64),
    }


def state_request(rng, rows, length, rate=16_000):
    return {
        "input": rng.standard_normal((rows, length)).astype(np.float32),
        "state": rng.standard_normal((2, rows, 16)).astype(np.float32),
        "sr": np.array(rate, np.int64),
    }


def infer(module, server, name, request):
    """Output name to array."""
    address = server.http if module is tritonclient.http else server.grpc
    inputs = []
    for key, array in request.items():
        datatype = np_to_triton_dtype(array.dtype)
        inputs.append(module.InferInput(key, list(array.shape), datatype))
        inputs[-1].set_data_from_numpy(array)
    with contextlib.closing(module.InferenceServerClient(address)) as client:
        limit = {"client_timeout": SOON_S} if module is tritonclient.grpc else {}
        result = client.infer(name, inputs, **limit)
        outputs = client.get_model_metadata(name)
        if module is tritonclient.http:
            names = [output["name"] for output in outputs["outputs"]]
        else:
            names = [output.name for output in outputs.outputs]
        return {output: result.as_numpy(output) for output in names}


def compare(answer, expected):
    assert set(answer) == set(expected)
    for name, wanted in expected.items():
        assert answer[name].shape == wanted.shape, name
        np.testing.assert_allclose(answer[name], wanted, rtol=1e-4, atol=1e-4, err_msg=name)


def check_together(server, path, name, requests):
    """Sends all of them at once, over both protocols, and compares each with its own answer."""
    expected = [models.reference(path, **request) for request in requests]

    def one(at):
        return infer(CLIENTS[at % 2], server, name, requests[at])

    with ThreadPoolExecutor(TOGETHER) as pool:
        for answer, wanted in zip(pool.map(one, range(len(requests))), expected, strict=True):
            compare(answer, wanted)


def test_requests_of_different_lengths_share_batches_and_get_their_own_answers(server, paths, rng):
    lengths = [1, 2, 3, 5, 8, 13, 21, 34, 55, SEQUENCE_MAX]
    requests = [
        encoder_request(rng, int(rng.integers(1, 4)), int(rng.choice(lengths)))
        for _ in range(4 * TOGETHER)
    ]
    check_together(server, paths["encoder"], "encoder", requests)


def test_rows_along_the_second_axis_with_shared_values(server, paths, rng):
    requests = [
        state_request(rng, int(rng.integers(1, 4)), length, rate)
        for length in (256, 512)
        for rate in (8_000, 16_000)
        for _ in range(TOGETHER // 2)
    ]
    check_together(server, paths["state"], "state", requests)


@pytest.mark.parametrize("module", CLIENTS)
def test_more_rows_than_a_batch_takes(server, paths, rng, module):
    good = {"model": "encoder", "outcome": "good"}
    before = server.total("symphony_requests_total", **good)
    request = encoder_request(rng, 3 * ROWS_MAX + 1, 9)
    wanted = models.reference(paths["encoder"], **request)
    compare(infer(module, server, "encoder", request), wanted)
    assert server.total("symphony_requests_total", **good) == before + 1
    request = state_request(rng, REQUEST_ROWS_MAX, 256)
    compare(infer(module, server, "state", request), models.reference(paths["state"], **request))
    eventually(lambda: server.total(IN_FLIGHT) == 0, "nothing in flight")


@pytest.mark.parametrize("module", CLIENTS)
def test_one_user_beside_many_items_and_a_weight_that_is_left_out(server, rng, module):
    for rows in (1, 5, ROWS_MAX, 2 * ROWS_MAX + 3):
        user = rng.standard_normal((1, 4)).astype(np.float32)
        item = rng.standard_normal((rows, 4)).astype(np.float32)
        for weight in (None, 0.5):
            request = {"user": user, "item": item}
            if weight is not None:
                request["weight"] = np.array([weight], np.float32)
            expected = (user * item).sum(axis=1) * (2.0 if weight is None else weight)
            compare(infer(module, server, "score", request), {"score": expected})


@pytest.mark.parametrize("module", CLIENTS)
def test_outputs_without_rows_and_of_no_dimension(server, paths, rng, module):
    boxes = np.abs(rng.standard_normal((5, 7))).astype(np.float32)
    for kept in (0, 1, 5):
        boxes[:, 0] = np.where(np.arange(5) < kept, 1, -1)
        answer = infer(module, server, "found", {"boxes": boxes})
        assert answer["found"].shape == (kept, 7)
        compare(answer, models.reference(paths["found"], boxes=boxes))


def test_metadata_shows_what_a_request_chooses(server):
    def shapes(name):
        metadata = json.loads(wire.call(server, "GET", f"/v2/models/{name}").body)
        return {tensor["name"]: tensor["shape"] for tensor in metadata["inputs"]}

    assert shapes("encoder") == {"input_ids": [-1, -1], "attention_mask": [-1, -1]}
    assert shapes("state") == {"input": [-1, -1], "state": [2, -1, 16], "sr": []}
    assert shapes("single") == {"x": [3]}


def ones(*shape):
    return np.ones(shape, np.int64)


ENCODER = {"input_ids": ones(2, 5), "attention_mask": ones(2, 5)}
STATE = {
    "input": np.ones((2, 256), np.float32),
    "state": np.ones((2, 2, 16), np.float32),
    "sr": np.array(16_000),
}
BAD = {
    "over the bound": (
        "encoder",
        {"input_ids": ones(1, SEQUENCE_MAX + 1), "attention_mask": ones(1, SEQUENCE_MAX + 1)},
        ["sequence", str(SEQUENCE_MAX + 1), str(SEQUENCE_MAX), "max_size", "model.toml"],
    ),
    "zero": ("encoder", ENCODER | {"input_ids": ones(2, 0)}, ["sequence", "0", "at least 1"]),
    "disagreeing dimension": (
        "encoder",
        ENCODER | {"attention_mask": ones(2, 4)},
        ["sequence", "5", "input_ids", "4", "attention_mask"],
    ),
    "disagreeing rows": (
        "state",
        STATE | {"state": np.ones((2, 3, 16), np.float32)},
        ["state", "3", "input", "2", "rows"],
    ),
    "missing mask": (
        "encoder",
        {"input_ids": ENCODER["input_ids"]},
        ["attention_mask", "missing", "sequence", "input_ids"],
    ),
    "missing state": ("state", {"input": STATE["input"], "sr": STATE["sr"]}, ["state", "missing"]),
    "shared with rows": ("state", STATE | {"sr": ones(2)}, ["sr", "[2]", "[]"]),
    "wrong axis": (
        "state",
        STATE | {"state": np.ones((3, 2, 16), np.float32)},
        ["state", "[2,-1,16]", "dimension 1"],
    ),
    "too many rows": (
        "encoder",
        {
            "input_ids": ones(REQUEST_ROWS_MAX + 1, 2),
            "attention_mask": ones(REQUEST_ROWS_MAX + 1, 2),
        },
        [str(REQUEST_ROWS_MAX + 1), str(REQUEST_ROWS_MAX), "request_rows_max"],
    ),
    "rows of a model without them": (
        "single",
        {"x": np.ones((4, 3), np.float32)},
        ["x", "no batch dimension", "one request for each row"],
    ),
    "two users beside five items": (
        "score",
        {"user": np.ones((2, 4), np.float32), "item": np.ones((5, 4), np.float32)},
        ["user", "2", "item", "5"],
    ),
}


@pytest.mark.parametrize("module", CLIENTS)
@pytest.mark.parametrize("case", BAD)
def test_what_does_not_go_together_is_refused_by_name(server, case, module):
    name, request, words = BAD[case]
    with pytest.raises(InferenceServerException) as refused:
        infer(module, server, name, request)
    text = refused.value.message().replace(", ", ",")
    for word in words:
        assert word in text, text
    assert refused.value.status() in ("400", "StatusCode.INVALID_ARGUMENT"), refused.value
    assert server.process.poll() is None
