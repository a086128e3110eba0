"""The model repository at run time: load, unload, reload, and what happens when a load fails."""

import json
import signal
import socket
import threading

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from skl2onnx import to_onnx
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from tritonclient.utils import InferenceServerException

import models
import wire
from symphony import SOON_S, eventually, run

ROW = [[1.0, 2.0, 3.0]]


@pytest.fixture
def repository(tmp_path):
    path = tmp_path / "models"
    models.write(path, "affine", models.affine(), max_batch=4)
    return path


@pytest.fixture(params=["http", "grpc"])
def connect(request):
    """Opens the tritonclient of one protocol; loading profiles the model, which takes a while."""
    module = {"http": tritonclient.http, "grpc": tritonclient.grpc}[request.param]
    limits = {"network_timeout": 5 * SOON_S} if request.param == "http" else {}

    def connect(server):
        return module.InferenceServerClient(getattr(server, request.param), **limits)

    return connect


def answer(server, model="affine"):
    found = wire.infer(server, model, wire.tensor(ROW))
    assert found.status == 200, found
    return found.outputs()["y"]["data"]


def index(server):
    entries = json.loads(wire.call(server, "POST", "/v2/repository/index", b"").body)
    return {entry["name"]: entry for entry in entries}


def expected(path):
    return models.reference(path, x=np.array(ROW, np.float32))["y"].ravel()


def test_load_and_unload(start, repository, connect):
    server = start(repository)
    with connect(server) as client:
        client.unload_model("affine")
        assert not client.is_model_ready("affine")
        assert client.is_server_live()
        assert wire.infer(server, "affine", wire.tensor(ROW)).status in (404, 503)
        client.load_model("affine")
        assert client.is_model_ready("affine")
    np.testing.assert_allclose(
        answer(server), expected(repository / "affine/1/model.onnx"), rtol=1e-5
    )


def test_series_of_models_and_versions_that_are_gone_are_gone(start, repository, connect):
    server = start(repository)
    assert answer(server)

    def good():
        return {
            dict(labels)["version"]: value
            for (name, labels), value in server.scrape().items()
            if name == "symphony_requests_total" and ("outcome", "good") in labels
        }

    assert good() == {"1": 1}
    models.write(repository, "affine", models.affine(2), version=2, max_batch=4)
    with connect(server) as client:
        client.load_model("affine")
        assert answer(server)
        assert good() == {"2": 1}
        client.unload_model("affine")
        assert not any("affine" in line for line in server.metrics_page().splitlines())
        client.load_model("affine")
    assert good() == {"2": 0}


def test_a_load_that_would_change_the_model_is_refused(start, repository, connect):
    server = start(repository)
    with connect(server) as client:
        with pytest.raises(InferenceServerException) as error:
            client.load_model("affine", config="{}")
        assert error.value.status() in ("501", "StatusCode.UNIMPLEMENTED")
        assert "config" in error.value.message()
        client.unload_model("affine", unload_dependents=True)
        assert not client.is_model_ready("affine")


def test_a_new_model_is_loaded(start, repository, connect):
    server = start(repository)
    path = models.write(repository, "triple", models.affine(3), max_batch=4)
    with connect(server) as client:
        assert not client.is_model_ready("triple")
        client.load_model("triple")
        assert client.is_model_ready("triple")
    np.testing.assert_allclose(answer(server, "triple"), expected(path), rtol=1e-5)


def test_a_new_version_takes_over_without_a_gap(start, repository, connect):
    """Requests are sent all the while: each is answered, by the old version or by the new."""
    server = start(repository)
    old = expected(repository / "affine/1/model.onnx")
    new = expected(models.write(repository, "affine", models.affine(2), version=2, max_batch=4))
    found, done = [], threading.Event()

    def ask():
        while not done.is_set():
            found.append(answer(server))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        with connect(server) as client:
            client.load_model("affine")
            assert client.get_model_repository_index()
    finally:
        done.set()
        asking.join(SOON_S)
    found.append(answer(server))
    versions = ["old" if np.allclose(y, old) else "new" for y in found]
    assert versions == sorted(versions, reverse=True)
    for y, version in zip(found, versions, strict=True):
        np.testing.assert_allclose(y, {"old": old, "new": new}[version], rtol=1e-5)
    assert versions[0] == "old"
    assert versions[-1] == "new"
    assert index(server)["affine"]["version"] == "2"


def test_sighup_reads_the_repository_anew(start, repository):
    models.write(repository, "removed", models.affine(), max_batch=1)
    server = start(repository)
    models.write(repository, "affine", models.affine(2), version=2, max_batch=4)
    path = models.write(repository, "added", models.affine(5), max_batch=1)
    for file in sorted((repository / "removed").rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    (repository / "removed").rmdir()
    server.signal(signal.SIGHUP)
    eventually(lambda: index(server).get("added", {}).get("state") == "READY", "added", 5 * SOON_S)
    eventually(lambda: index(server)["affine"]["version"] == "2", "version 2", 5 * SOON_S)
    eventually(
        lambda: index(server).get("removed", {}).get("state") != "READY", "removed", 5 * SOON_S
    )
    np.testing.assert_allclose(answer(server, "added"), expected(path), rtol=1e-5)
    np.testing.assert_allclose(
        answer(server), expected(repository / "affine/2/model.onnx"), rtol=1e-5
    )
    assert server.status("/v2/health/ready") == 200


def truncated(repository):
    path = models.write(repository, "affine", models.affine(2), version=2, max_batch=4)
    path.write_bytes(path.read_bytes()[:-40])
    return "model.onnx"


def noise(repository):
    path = models.write(repository, "affine", models.affine(2), version=2, max_batch=4)
    path.write_bytes(np.random.default_rng(1).bytes(100_000))
    return "model.onnx"


def empty(repository):
    models.write(repository, "affine", models.affine(2), version=2, max_batch=4).write_bytes(b"")
    return "model.onnx"


def data_elsewhere(repository):
    """A graph whose weights are said to be in a file outside the repository."""
    import onnx

    model = models.affine(2)
    weights = model.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", "../../../../../../etc/passwd"), ("length", "24")):
        weights.external_data.add(key=key, value=value)
    path = repository / "affine/2/model.onnx"
    path.parent.mkdir()
    path.write_bytes(model.SerializeToString())
    return "etc/passwd"


def vast(repository):
    """A graph that claims a tensor of 2^60 elements."""
    model = models.affine(2)
    model.graph.initializer[0].dims[:] = [2**30, 2**30]
    path = repository / "affine/2/model.onnx"
    path.parent.mkdir()
    path.write_bytes(model.SerializeToString())
    return "w"


def unknown_key(repository):
    models.write(repository, "affine", models.affine(2), version=2, max_bach=4)
    return "max_bach"


def nonsense_slo(repository):
    models.write(repository, "affine", models.affine(2), version=2, slo_ms=-3)
    return "slo_ms"


def impossible_slo(repository):
    models.write(repository, "affine", models.affine(2), version=2, slo_ms=0.000_001)
    return "slo"


def open_dimension(repository):
    model = models.affine(2)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "features"
    models.write(repository, "affine", model, version=2)
    return "features"


def no_toml(repository):
    models.write(repository, "affine", models.affine(2), version=2)
    (repository / "affine/model.toml").write_text("slo_ms = = 3\n")
    return "model.toml"


BROKEN = [
    truncated,
    noise,
    empty,
    data_elsewhere,
    vast,
    unknown_key,
    nonsense_slo,
    impossible_slo,
    open_dimension,
    no_toml,
]


def test_a_failed_load_leaves_the_old_version_serving(start, repository, connect):
    server = start(repository)
    old = answer(server)
    for spoil in BROKEN:
        for file in (repository / "affine/2").glob("*"):
            file.unlink()
        if (repository / "affine/2").exists():
            (repository / "affine/2").rmdir()
        models.write(repository, "affine", max_batch=4)
        named = spoil(repository)
        with connect(server) as client, pytest.raises(InferenceServerException) as error:
            client.load_model("affine")
        assert "affine" in error.value.message(), spoil.__name__
        assert named in error.value.message(), (spoil.__name__, error.value.message())
        assert answer(server) == old, spoil.__name__
        assert server.status("/v2/models/affine/ready") == 200
    assert "panicked" not in server.log.read_text()


# A check runs a model only when asked to, and cannot tell how long one takes.
@pytest.mark.parametrize("spoil", [spoil for spoil in BROKEN if spoil is not impossible_slo])
def test_check_names_what_is_wrong(repository, tmp_path, spoil):
    named = spoil(repository)
    options = ["--run"] if spoil is open_dimension else []
    done = run("serve", "--models", repository, "--check", *options, folder=tmp_path)
    said = done.stdout + done.stderr
    assert done.returncode not in (0, 101), said
    assert named in said
    assert "affine" in said


def test_check_passes_what_is_right(repository, tmp_path):
    done = run("serve", "--models", repository, "--check", folder=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_repository_that_does_not_exist(tmp_path):
    done = run("serve", "--models", tmp_path / "nowhere", folder=tmp_path)
    assert done.returncode not in (0, 101), done.stderr
    assert "nowhere" in done.stderr


@pytest.mark.parametrize("listener", ["http", "grpc", "metrics"])
def test_a_port_in_use(repository, tmp_path, listener):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ports = {"http": 0, "grpc": 0, "metrics": 0} | {listener: port}
        flags = [word for name, number in ports.items() for word in (f"--{name}-port", number)]
        done = run("serve", "--models", repository, *flags, folder=tmp_path)
    assert done.returncode not in (0, 101), done.stderr
    assert str(port) in done.stderr
    assert f"--{listener}-port" in done.stderr


def test_an_unknown_key_in_the_servers_own_configuration(repository, tmp_path):
    config = tmp_path / "symphony.toml"
    config.write_text("acelerators = 2\n")
    done = run("serve", "--models", repository, "--config", config, "--check", folder=tmp_path)
    assert done.returncode not in (0, 101), done.stderr
    assert "acelerators" in done.stderr


@pytest.mark.parametrize(
    "estimator", [LogisticRegression(max_iter=1000), RandomForestClassifier(10)], ids=repr
)
def test_scikit_learn_exports(start, tmp_path, estimator):
    features, labels = load_iris(return_X_y=True)
    features = features.astype(np.float32)
    estimator.set_params(random_state=0).fit(features, labels)
    exported = to_onnx(
        estimator, features[:1], options={"zipmap": False}, target_opset={"": 17, "ai.onnx.ml": 3}
    )
    repository = tmp_path / "models"
    path = models.write(repository, "iris", exported, max_batch=64)
    server = start(repository)
    (name,) = (tensor.name for tensor in exported.graph.input)
    reference = models.reference(path, **{name: features[:50]})
    x = tritonclient.http.InferInput(name, [50, 4], "FP32")
    x.set_data_from_numpy(features[:50])
    with tritonclient.http.InferenceServerClient(server.http) as client:
        result = client.infer("iris", [x])
    for output, values in reference.items():
        np.testing.assert_allclose(result.as_numpy(output), values, rtol=1e-4, atol=1e-5)
