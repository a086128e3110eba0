"""Every datatype of the protocol, both ways over both protocols, through ONNX models and through
the emulated engine."""

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from ml_dtypes import bfloat16
from tritonclient.utils import InferenceServerException

import models
import wire
from symphony import SOON_S, USUAL, Server

ONNX = "identity"
ECHO = "echo"
NARROW = "narrow_INT64"
WORDS = "words"


def sample(datatype):
    """Two rows of four values with the type's extremes among them."""
    if datatype == "BOOL":
        values = np.array([[1, 0, 0, 1], [0, 1, 1, 1]], bool)
    elif datatype == "BYTES":
        texts = [b"", b"a", "é".encode(), b"\x00\xff", b"x" * 1000, b'"\\', b"7", b" "]
        values = np.array(texts, object).reshape(2, 4)
    elif datatype == "BF16":
        values = np.array([[0, -1, 1.5, 2.0**100], [2.0**-100, -0.0, 256, np.inf]], bfloat16)
    elif datatype.startswith("FP"):
        kind = {"FP16": np.float16, "FP32": np.float32, "FP64": np.float64}[datatype]
        limits = np.finfo(kind)
        values = np.array([[0, -1.5, 1 / 3, limits.max], [limits.tiny, limits.min, 1, 2]], kind)
    else:
        kind = np.dtype(datatype.lower())
        limits = np.iinfo(kind)
        values = np.array([[0, 1, limits.max, limits.min], [limits.max - 1, 2, 3, 4]], kind)
    return values


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    return tmp_path_factory.mktemp("typed")


@pytest.fixture(scope="module")
def word_model(repository):
    return models.write(repository, WORDS, models.words(), engine="onnxruntime", max_batch=8)


@pytest.fixture(scope="module")
def typed_server(repository, word_model, tmp_path_factory):
    narrow = models.identity("INT64")
    models.write(repository, NARROW, narrow, engine="rten", max_batch=8)
    for datatype in models.DATATYPES:
        models.write(
            repository,
            f"{ONNX}_{datatype}",
            models.identity(datatype),
            engine="onnxruntime",
            max_batch=8,
        )
        models.write_emulated(
            repository,
            f"{ECHO}_{datatype}",
            alpha_ms=0,
            beta_ms=0.1,
            datatype=datatype,
            max_batch=8,
        )
    folder = tmp_path_factory.mktemp("server")
    # So that one type that does not load fails its own tests only.
    with Server(repository, folder, config=USUAL, arguments=["--skip-failed"]) as server:
        yield server


WAYS = [
    (engine, datatype, protocol)
    for engine in (ONNX, ECHO)
    for datatype in models.DATATYPES
    for protocol in ("http-binary", "http-json", "grpc")
    # The protocol has no JSON form for these.
    if not (protocol == "http-json" and datatype in ("FP16", "BF16"))
]


@pytest.mark.parametrize(("engine", "datatype", "protocol"), WAYS)
def test_values_come_back(typed_server, datatype, engine, protocol):
    values = sample(datatype)
    if datatype == "BYTES" and (engine == ONNX or protocol == "http-json"):
        # ONNX and JSON hold text only.
        values = np.array([["", "a", "é", "7"], ["\n", '"', "\\", "𝄞"]], object)
        if protocol != "http-json":
            values = np.char.encode(values.astype(str), "utf-8").astype(object)
    result = echoed(typed_server, f"{engine}_{datatype}", values, datatype, protocol)
    assert result.dtype == values.dtype
    np.testing.assert_array_equal(result, values)


@pytest.mark.parametrize(
    ("engine", "datatype", "protocol"), [way for way in WAYS if way[1] in ("FP32", "FP64")]
)
def test_floats_that_are_not_finite_come_back(typed_server, datatype, engine, protocol):
    kind = {"FP32": np.float32, "FP64": np.float64}[datatype]
    values = np.array([[np.nan, np.inf, -np.inf, 0.1], [1, np.nan, -0.0, -np.inf]], kind)
    result = echoed(typed_server, f"{engine}_{datatype}", values, datatype, protocol)
    np.testing.assert_array_equal(result, values)


@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
def test_pythons_own_json_carries_floats_that_are_not_finite(typed_server, datatype):
    values = [float("nan"), float("inf"), float("-inf"), 0.5]
    tensor = {"name": "x", "shape": [1, 4], "datatype": datatype, "data": values}
    answer = wire.infer(typed_server, f"{ECHO}_{datatype}", tensor)
    assert answer.status == 200, answer
    np.testing.assert_array_equal(answer.outputs()["y"]["data"], values)


def echoed(server, model, values, datatype, protocol):
    if protocol == "grpc":
        module, address, options = tritonclient.grpc, server.grpc, {}
        limits = {}
    else:
        module, address = tritonclient.http, server.http
        options = {"binary_data": protocol == "http-binary"}
        limits = {"connection_timeout": SOON_S, "network_timeout": SOON_S}
    x = module.InferInput("x", list(values.shape), datatype)
    x.set_data_from_numpy(values, **options)
    y = module.InferRequestedOutput("y", **options)
    with module.InferenceServerClient(address, **limits) as client:
        result = client.infer(model, [x], outputs=[y])
    (described,) = (
        result.get_response().outputs if protocol == "grpc" else result.get_response()["outputs"]
    )
    found = described.datatype if protocol == "grpc" else described["datatype"]
    assert found == datatype
    return result.as_numpy("y")


def test_text_that_is_no_text_is_refused_alone(typed_server):
    """ONNX knows text where the protocol knows bytes. Which requests share a batch is not known;
    that some do is all but certain, and the good ones among them are answered."""
    good = sample("BYTES")
    good[good == b"\x00\xff"] = b"b"
    bad = good.copy()
    bad[1, 2] = b"\xff"
    refused_alone(typed_server, f"{ONNX}_BYTES", "BYTES", good, bad, "UTF-8")


def test_integers_that_the_engine_has_no_bits_for_are_refused_alone(typed_server):
    good = np.array([[0, 1, 2**31 - 1, -(2**31)], [5, 6, 7, 8]])
    bad = good.copy()
    bad[1, 2] = 2**31
    refused_alone(typed_server, NARROW, "INT64", good, bad, str(2**31))


def refused_alone(server, model, datatype, good, bad, said):
    """`bad` is refused for its element 6, saying `said`, whoever shares the batch."""

    def send(values):
        try:
            result = echoed(server, model, values, datatype, "http-binary")
        except InferenceServerException as error:
            return error.status(), error.message()
        np.testing.assert_array_equal(result, values)
        return "200", ""

    def counted(outcome):
        return server.total("symphony_requests_total", model=model, outcome=outcome)

    before = [counted("good"), counted("refused")]
    answers = wire.together([lambda: send(good), lambda: send(bad)] * 16)
    assert [status for status, _ in answers].count("200") == 16
    refused = [answer for answer in answers if answer[0] != "200"]
    assert {status for status, _ in refused} == {"400"}
    for _, message in refused:
        assert 'element 6 of input "x"' in message
        assert said in message
    assert [counted("good"), counted("refused")] == [number + 16 for number in before]


def test_words_are_classified(typed_server, word_model):
    """A pipeline of scikit-learn from columns of words to a word and its probabilities."""
    words = np.array([["red", "blü"], ["green", "red"], ["unheard", "of"]], object)
    encoded = np.char.encode(words.astype(str), "utf-8").astype(object)
    x = tritonclient.http.InferInput("x", [3, 2], "BYTES")
    x.set_data_from_numpy(encoded)
    with tritonclient.http.InferenceServerClient(typed_server.http) as client:
        result = client.infer(WORDS, [x])
    wanted = models.reference(word_model, x=words)
    labels = [label.decode() for label in result.as_numpy("label")]
    assert labels == wanted["label"].tolist()
    np.testing.assert_allclose(result.as_numpy("probabilities"), wanted["probabilities"], 1e-5)


@pytest.mark.parametrize("datatype", models.DATATYPES)
def test_the_models_tell_their_types(typed_server, datatype):
    with tritonclient.http.InferenceServerClient(typed_server.http) as client:
        metadata = client.get_model_metadata(f"{ECHO}_{datatype}")
        config = client.get_model_config(f"{ECHO}_{datatype}")
    assert metadata["inputs"] == [{"name": "x", "datatype": datatype, "shape": [-1, 4]}]
    configured = "STRING" if datatype == "BYTES" else datatype
    assert config["output"][0]["data_type"] == f"TYPE_{configured}"
