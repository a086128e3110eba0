"""A repository as NVIDIA Triton has it, through Triton's own clients.

The repository has no file of ours: `config.pbtxt`, version directories, and what Triton's users
write into them.
"""

import json
import subprocess

import numpy as np
import onnx
import pytest
import tritonclient.grpc
import tritonclient.http
from onnx import helper, numpy_helper
from tritonclient.utils import InferenceServerException

import models
import wire
from symphony import SOON_S, binary, run
from test_perf_analyzer import perf_analyzer, requests_sent

ROW = [[1.0, 2.0, 3.0]]

# As in the examples of Triton's documentation, but for the sizes.
AFFINE = """
name: "affine"
platform: "onnxruntime_onnx"
max_batch_size: 8
input [
  {
    name: "x"
    data_type: TYPE_FP32
    dims: [ 3 ]
  }
]
output [
  {
    name: "y"
    data_type: TYPE_FP32
    dims: [ 2 ]
  }
]
version_policy { %s }
instance_group [ { count: 2 kind: KIND_CPU } ]
dynamic_batching {
  preferred_batch_size: [ 4, 8 ]
  max_queue_delay_microseconds: 100
  priority_levels: 2
  default_priority_level: 2
  default_queue_policy { default_timeout_microseconds: 60000000 max_queue_size: 50 }
}
parameters { key: "intra_op_thread_count" value { string_value: "1" } }
"""
NOTED = [
    "instance_group",
    "dynamic_batching.preferred_batch_size",
    "dynamic_batching.max_queue_delay_microseconds",
    "dynamic_batching.priority_levels",
    "parameters",
]


def write(repository, name, config, *versions):
    """Writes a model: its configuration, and a file or a graph for each version."""
    folder = repository / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.pbtxt").write_text(config)
    paths = []
    for number, model in enumerate(versions, 1):
        paths.append(folder / str(number) / "model.onnx")
        paths[-1].parent.mkdir(exist_ok=True)
        onnx.save(model, paths[-1])
    return paths


def affine(repository, policy):
    """Three versions that answer differently."""
    graphs = [models.affine(scale) for scale in (1, 2, 3)]
    return write(repository, "affine", AFFINE % policy, *graphs)


def flat():
    """`x` [batch] plus one as `y` [batch, 1, 2]: clients of Triton have to reshape it."""
    ones = numpy_helper.from_array(np.ones((1, 1, 2), np.float32), "ones")
    axes = numpy_helper.from_array(np.array([1, 2], np.int64), "axes")
    made = helper.make_graph(
        [helper.make_node("Unsqueeze", ["x", "axes"], ["u"]),
         helper.make_node("Add", ["u", "ones"], ["y"])],
        "flat",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch"])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", 1, 2])],
        [ones, axes],
    )  # fmt: skip
    opset = [helper.make_opsetid("", models.OPSET)]
    return helper.make_model(made, opset_imports=opset, ir_version=8)


FLAT = """
max_batch_size: 4
input { name: "x" data_type: TYPE_FP32 dims: [ 1 ] reshape { shape: [ ] } }
output { name: "y" data_type: TYPE_FP32 dims: [ 2 ] reshape { shape: [ 1, 2 ] } }
"""


@pytest.fixture
def repository(tmp_path):
    return tmp_path / "models"


@pytest.fixture(params=["http", "grpc"])
def connect(request):
    """Opens the tritonclient of one protocol."""
    module = {"http": tritonclient.http, "grpc": tritonclient.grpc}[request.param]
    limits = {"network_timeout": 5 * SOON_S} if request.param == "http" else {}

    def connect(server):
        return module, module.InferenceServerClient(getattr(server, request.param), **limits)

    return connect


def infer(module, client, model, array, output="y", **extra):
    x = module.InferInput("x", list(array.shape), "FP32")
    x.set_data_from_numpy(array)
    return client.infer(model, [x], **extra).as_numpy(output)


def config_of(client, model, version=""):
    """The configuration as the JSON that HTTP gives, over either protocol."""
    if isinstance(client, tritonclient.http.InferenceServerClient):
        return client.get_model_config(model, version)
    found = client.get_model_config(model, version, as_json=True)["config"]
    # gRPC's JSON has 64-bit numbers as text, and leaves out what is zero.
    numbers = {"max_batch_size": int(found.get("max_batch_size", 0))}
    for role in ("input", "output"):
        for tensor in found[role]:
            tensor["dims"] = [int(dim) for dim in tensor["dims"]]
    return found | numbers


def metadata_of(client, model):
    if isinstance(client, tritonclient.http.InferenceServerClient):
        return client.get_model_metadata(model)
    return client.get_model_metadata(model, as_json=True)


def states(client):
    found = client.get_model_repository_index()
    if not isinstance(found, list):
        found = [
            {"name": model.name, "version": model.version, "state": model.state}
            for model in found.models
        ]
    return [(entry["name"], entry["version"], entry["state"]) for entry in found]


def test_versions_side_by_side(start, repository, connect):
    paths = affine(repository, "latest { num_versions: 2 }")
    server = start(repository)
    x = np.array(ROW, np.float32)
    expected = [models.reference(path, x=x)["y"] for path in paths]
    module, client = connect(server)
    with client:
        assert states(client) == [("affine", "2", "READY"), ("affine", "3", "READY")]
        for version, answer in (("2", expected[1]), ("3", expected[2]), ("", expected[2])):
            y = infer(module, client, "affine", x, model_version=version)
            np.testing.assert_allclose(y, answer, rtol=1e-5)
            assert client.is_model_ready("affine", version)
        assert not client.is_model_ready("affine", "1")
        with pytest.raises(InferenceServerException, match='only in version "2", "3"'):
            infer(module, client, "affine", x, model_version="1")
        assert metadata_of(client, "affine")["versions"] == ["2", "3"]

        (repository / "affine/config.pbtxt").write_text(
            AFFINE % "specific { versions: [ 1, 3 ] }"
        )
        client.load_model("affine")
        assert states(client) == [("affine", "1", "READY"), ("affine", "3", "READY")]
        y = infer(module, client, "affine", x, model_version="1")
        np.testing.assert_allclose(y, expected[0], rtol=1e-5)

        client.unload_model("affine")
        assert states(client) == [
            ("affine", "1", "UNAVAILABLE"),
            ("affine", "3", "UNAVAILABLE"),
        ]
        assert not client.is_model_ready("affine")


def test_each_version_has_its_own_series(start, repository, connect):
    affine(repository, "all {}")
    server = start(repository)
    module, client = connect(server)
    with client:
        for version in ("1", "3", "3"):
            infer(module, client, "affine", np.array(ROW, np.float32), model_version=version)
    for version, count in (("1", 1), ("2", 0), ("3", 2)):
        labels = {"model": "affine", "version": version, "outcome": "good"}
        assert server.total("symphony_requests_total", **labels) == count


def test_the_configuration_is_given_back(start, repository, connect):
    affine(repository, "all {}")
    server = start(repository)
    _, client = connect(server)
    with client:
        config, first = config_of(client, "affine"), config_of(client, "affine", "1")
    # Each version is measured for itself.
    slo_ms = [found["parameters"].pop("slo_ms")["string_value"] for found in (config, first)]
    assert first == config
    assert config["name"] == "affine"
    assert config["platform"] == "onnxruntime_onnx"
    assert config["backend"] == "onnxruntime"
    assert config["max_batch_size"] == 8
    assert config["default_model_filename"] == "model.onnx"
    assert list(config["version_policy"]) == ["all"]
    assert [(x["name"], x["data_type"], x["dims"]) for x in config["input"]] == [
        ("x", "TYPE_FP32", [3])
    ]
    assert [(y["name"], y["data_type"], y["dims"]) for y in config["output"]] == [
        ("y", "TYPE_FP32", [2])
    ]
    batching = config["dynamic_batching"]
    assert batching["preferred_batch_size"] == [4, 8]
    assert int(batching["default_priority_level"]) == 2
    assert config["instance_group"][0]["kind"] == "KIND_CPU"
    assert config["parameters"]["intra_op_thread_count"] == {"string_value": "1"}
    # A minute in the queue, and the time of a batch.
    assert all(60_000 <= float(ms) < 120_000 for ms in slo_ms)


def test_a_model_of_ours_has_a_configuration_too(server):
    config = json.loads(wire.call(server, "GET", "/v2/models/simple/config").body)
    assert config["name"] == "simple"
    assert config["max_batch_size"] == 8
    assert config["version_policy"] == {"latest": {"num_versions": 1}}
    assert [(x["name"], x["dims"], x["optional"]) for x in config["input"]] == [
        ("INPUT0", [16], False),
        ("INPUT1", [16], False),
    ]
    assert "ensemble_scheduling" not in config


def test_reshaped_tensors(start, repository, connect):
    write(repository, "flat", FLAT, flat())
    server = start(repository)
    module, client = connect(server)
    x = np.array([[1], [5]], np.float32)
    with client:
        y = infer(module, client, "flat", x)
        assert y.tolist() == [[2, 2], [6, 6]]
        metadata = metadata_of(client, "flat")
        with pytest.raises(InferenceServerException):
            infer(module, client, "flat", x.ravel())
    shapes = [[int(dim) for dim in metadata[role][0]["shape"]] for role in ("inputs", "outputs")]
    assert shapes == [[-1, 1], [-1, 2]]


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_perf_analyzer_reads_the_configuration(start, repository, protocol):
    affine(repository, "latest { num_versions: 2 }")
    server = start(repository)
    for version in ("2", "3"):
        arguments = ["-m", "affine", "-x", version, "-i", protocol, "-b", "2"]
        done = perf_analyzer(server, *arguments, "--request-count", 40)
        assert done.returncode == 0, done.stdout + done.stderr
        assert requests_sent(done.stdout) >= 40, done.stdout
        labels = {"model": "affine", "version": version, "outcome": "good"}
        assert server.total("symphony_requests_total", **labels) >= 40


def test_each_key_that_means_something_else_is_noted_once(start, repository):
    affine(repository, "all {}")
    log = start(repository).log.read_text()
    for key in NOTED:
        assert log.count(f"config.pbtxt: {key}: ") == 1, key


def test_check_notes_keys(repository, tmp_path):
    affine(repository, "all {}")
    done = run("serve", "--models", repository, "--check", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("ok")] == [
        f"ok    affine {version}" for version in (3, 2, 1)
    ]
    for key in NOTED:
        assert done.stdout.count(f"note  affine: config.pbtxt: {key}: ") == 1, key


REFUSED = {
    "name": ('name: "other"', ["other", "affine", "rename"]),
    "platform": ('platform: "tensorrt_plan"', ["tensorrt_plan", "ONNX", "onnxruntime_onnx"]),
    "ensemble": ("ensemble_scheduling { step { model_name: 'a' } }", ["ensembles"]),
    "syntax": ("max_batch_size: 8\ninput [ { name: x } ]", ["config.pbtxt:2:17", "a string"]),
    "unknown": ("\nmax_bach_size: 8", ["config.pbtxt:2:1", "max_bach_size"]),
    "dims": ('max_batch_size: 8 input { name: "x" dims: [ 4 ] }', ["[4]", "[batch, 3]"]),
    "type": ('max_batch_size: 8 input { name: "x" data_type: TYPE_INT8 }', ["TYPE_INT8", "float"]),
    "tensor": ('input { name: "input0" dims: [ 3 ] }', ["input0", '"x"']),
    "versions": ("version_policy { specific { versions: 9 } }", ["[9]"]),
}


@pytest.mark.parametrize("key", REFUSED)
def test_what_cannot_be_served_is_refused(repository, tmp_path, key):
    config, named = REFUSED[key]
    write(repository, "affine", config, models.affine())
    done = run("serve", "--models", repository, "--check", folder=tmp_path)
    assert done.returncode not in (0, 101), done.stdout
    for part in ["affine", *named]:
        assert part in done.stdout + done.stderr, done.stdout + done.stderr


def test_a_broken_file_leaves_the_old_one_serving(start, repository, connect):
    affine(repository, "all {}")
    server = start(repository)
    (repository / "affine/config.pbtxt").write_text(AFFINE % "all {} latest {}")
    _, client = connect(server)
    with client, pytest.raises(InferenceServerException, match=r"config\.pbtxt:\d+:\d+"):
        client.load_model("affine")
    assert server.status("/v2/models/affine/versions/2/ready") == 200


def test_convert_writes_a_model_toml_that_says_the_same(start, repository, tmp_path):
    affine(repository, "specific { versions: [ 1, 3 ] }")
    write(repository, "flat", FLAT, flat())

    def described():
        server = start(repository)
        found = {
            f"{model}{of}": json.loads(wire.call(server, "GET", f"/v2/models/{model}{of}").body)
            for model in ("affine", "flat")
            for of in ("", "/versions/1")
        }
        config = json.loads(wire.call(server, "GET", "/v2/models/affine/config").body)
        index = json.loads(wire.call(server, "POST", "/v2/repository/index", b"").body)
        server.stop()
        level = config["dynamic_batching"]["default_priority_level"]
        return found, index, config["max_batch_size"], config["version_policy"], level

    before = described()
    one = run_convert("convert", repository / "affine", folder=tmp_path)
    assert 'priority = "low"' in one.stdout
    assert "# instance_group: " in one.stdout
    done = run_convert("convert", repository, "--write", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    for model in ("affine", "flat"):
        (repository / model / "config.pbtxt").unlink()
    assert described() == before
    again = run_convert("convert", repository, folder=tmp_path)
    assert again.returncode not in (0, 101)


def run_convert(*arguments, folder):
    command = [binary(), *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SOON_S)
