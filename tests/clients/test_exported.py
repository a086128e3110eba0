"""Models that nobody here made are served unchanged, in the sizes that their users send, with the
answers that onnxruntime gives: alone, and together with others."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import onnxruntime
import pytest
import tritonclient.http
from tritonclient.utils import np_to_triton_dtype

import exported
import models
from symphony import SOON_S, USUAL, Server

NAMES = [
    *("encoder", "encoder_padded", "conv", "state", "slice_int32", "xgb", "tfidf", "rf_zipmap"),
    *("magika", "ocr_detector", "ocr_recogniser", "ocr_classifier"),
    *("vad", "vad_op15", "vad_ifless", "vad_half", "vad_one", "vad_sequence"),
    *("sk_forest", "sk_regressor", "sk_neighbours", "sk_words", "lightgbm", "xgboost"),
    *("int8_dynamic", "int8_dynamic_allowed", "int8_static", "optional", "fp16"),
]

# A large image takes seconds on a busy machine.
PATIENT = USUAL + "\n[scheduler]\naccelerator_overdue_ms = 60000\n"

# Requests that are under way at the same time.
TOGETHER = 8


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server of all of them, and the models by name."""
    folder = tmp_path_factory.mktemp("exported")
    found = exported.shared() | exported.packages() | exported.exports(folder / "made")
    repository = folder / "models"
    for name, model in found.items():
        settings = {"max_batch": 16} | model.settings
        source = model.source
        written = source if isinstance(source, onnx.ModelProto) else onnx.load(source)
        models.write(repository, name, written, tables=model.tables, **settings)
        if not isinstance(source, onnx.ModelProto):
            (repository / name / "1" / "model.onnx").write_bytes(source.read_bytes())
    arguments = ["--skip-failed"]
    with Server(repository, folder / "server", config=PATIENT, arguments=arguments) as server:
        yield server, found


def test_every_model_is_named(served):
    assert sorted(served[1]) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_answers_as_onnxruntime_does(served, name):
    server, found = served
    model = found[name]
    log = server.log.read_text()
    lines = [line for line in log.splitlines() if f'model="{name}"' in line or f'"{name}"' in line]
    told = "\n".join(lines)
    assert server.status(f"/v2/models/{name}/ready") == 200, told
    assert ("serving one request per batch" in told) == bool(model.alone), told
    assert model.alone in told, told
    expected = [reference(server, name, model, request) for request in model.requests]
    with tritonclient.http.InferenceServerClient(
        server.http, concurrency=TOGETHER, connection_timeout=SOON_S, network_timeout=SOON_S
    ) as client:
        for request, wanted in zip(model.requests, expected, strict=True):
            compare(infer(client, name, request), wanted)
    # Several at once share batches where their form allows it.
    chosen = [at % len(model.requests) for at in range(3 * TOGETHER)]
    with ThreadPoolExecutor(TOGETHER) as pool:
        answers = pool.map(lambda at: infer_alone(server, name, model.requests[at]), chosen)
        for at, answer in zip(chosen, answers, strict=True):
            compare(answer, expected[at], is_loose="int8" in name)


def infer_alone(server, name, request):
    with tritonclient.http.InferenceServerClient(
        server.http, connection_timeout=SOON_S, network_timeout=SOON_S
    ) as client:
        return infer(client, name, request)


def infer(client, name, request):
    """Output name to array."""
    inputs = []
    for key, value in request.items():
        tensor = tritonclient.http.InferInput(key, list(value.shape), np_to_triton_dtype(value.dtype))
        tensor.set_data_from_numpy(value)
        inputs.append(tensor)
    result = client.infer(name, inputs)
    return {
        output["name"]: result.as_numpy(output["name"])
        for output in result.get_response()["outputs"]
    }


def reference(server, name, model, request):
    """What onnxruntime answers; maps as an array of one column for each key."""
    path = server.models / name / "1" / "model.onnx"
    if name == "tfidf":
        path = with_locale(path)
    answers = models.reference(path, **request)
    for output in model.maps:
        rows = answers[output]
        if isinstance(rows, list):
            answers[output] = np.array([list(row.values()) for row in rows], np.float32)
    return answers


def with_locale(path):
    """The model with a locale that every machine has: where the one that it asks for is missing,
    onnxruntime does not load it as it is."""
    model = onnx.load(path)
    for node in model.graph.node:
        if node.op_type == "StringNormalizer":
            kept = [attribute for attribute in node.attribute if attribute.name != "locale"]
            del node.attribute[:]
            node.attribute.extend([*kept, onnx.helper.make_attribute("locale", "C.UTF-8")])
    changed = path.with_name("reference.onnx.txt")
    onnx.save(model, changed)
    return changed


def compare(answer, expected, *, is_loose=False):
    assert set(answer) == set(expected)
    for name, wanted in expected.items():
        got = answer[name]
        assert got.shape == wanted.shape, name
        if wanted.dtype == object or np.issubdtype(wanted.dtype, np.integer):
            got = np.array([v.decode() if isinstance(v, bytes) else v for v in got.ravel()])
            np.testing.assert_array_equal(got, wanted.ravel(), name)
            continue
        scale = np.abs(wanted.astype(float)).max(initial=1e-30)
        room = 5e-2 if is_loose else 5e-3 if wanted.dtype == np.float16 else 1e-4
        assert np.abs(got.astype(float) - wanted.astype(float)).max(initial=0) <= room * scale, name


def test_what_was_found_is_said(served):
    """The start says which sizes are open, what is no tensor, and why rows do not share batches."""
    log = served[0].log.read_text()
    for said in (
        'dimension "sequence" is open, up to',
        'output "output_probability" is served as tensors',
        "activations are quantised over the batch",
    ):
        assert said in log, said


def test_operators_of_the_extensions_package(tmp_path):
    """`custom_ops = "extensions"` finds the library in the installed Python package."""
    from onnx import TensorProto, helper  # noqa: PLC0415
    from onnxruntime_extensions import get_library_path  # noqa: PLC0415

    node = helper.make_node("StringUpper", ["x"], ["y"], domain="ai.onnx.contrib")
    kind = TensorProto.STRING
    graph = helper.make_graph(
        [node],
        "upper",
        [helper.make_tensor_value_info("x", kind, ["batch", 2])],
        [helper.make_tensor_value_info("y", kind, ["batch", 2])],
    )
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.contrib", 1)]
    model = helper.make_model(graph, opset_imports=sets, ir_version=8)
    path = models.write(tmp_path / "models", "upper", model, custom_ops="extensions", max_batch=4)
    request = {"x": np.array([["one", "Zwölf"]], object)}
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(get_library_path())
    (wanted,) = onnxruntime.InferenceSession(path, options).run(None, request)
    with Server(tmp_path / "models", tmp_path / "server", config=USUAL) as server:
        compare(infer_alone(server, "upper", request), {"y": wanted})
