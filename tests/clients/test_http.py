"""tritonclient over HTTP: every way it can send tensors, compared with onnxruntime."""

import asyncio
import http.client
import json
import socket
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

import models
from symphony import SOON_S, eventually


@pytest.fixture
def client(server):
    limit = {"connection_timeout": SOON_S, "network_timeout": SOON_S}
    with triton.InferenceServerClient(server.http, concurrency=8, **limit) as client:
        yield client


def tensors(rng, rows=1):
    return {
        name: rng.integers(-1000, 1000, (rows, 16), dtype=np.int32) for name in ("INPUT0", "INPUT1")
    }


def inputs(arrays, binary=True, module=triton):
    made = []
    for name, array in arrays.items():
        made.append(module.InferInput(name, list(array.shape), "INT32"))
        made[-1].set_data_from_numpy(array, binary_data=binary)
    return made


def outputs(binary=True, module=triton):
    return [
        module.InferRequestedOutput(name, binary_data=binary) for name in ("OUTPUT0", "OUTPUT1")
    ]


def assert_answers(result, path, arrays):
    for name, expected in models.reference(path, **arrays).items():
        np.testing.assert_array_equal(result.as_numpy(name), expected)


@pytest.mark.parametrize("binary_in", [True, False], ids=["binary-in", "json-in"])
@pytest.mark.parametrize("binary_out", [True, False], ids=["binary-out", "json-out"])
@pytest.mark.parametrize("rows", [1, 5])
def test_tensors(client, shared_models, rng, rows, binary_in, binary_out):
    arrays = tensors(rng, rows)
    result = client.infer("simple", inputs(arrays, binary_in), outputs=outputs(binary_out))
    assert_answers(result, shared_models["simple"], arrays)
    for output in result.get_response()["outputs"]:
        assert output["shape"] == [rows, 16]
        assert output["datatype"] == "INT32"
        assert ("data" in output) != binary_out


@pytest.mark.parametrize("request_compression", [None, "gzip", "deflate"])
@pytest.mark.parametrize("response_compression", [None, "gzip", "deflate"])
def test_compression(client, shared_models, rng, request_compression, response_compression):
    arrays = tensors(rng, 8)
    result = client.infer(
        "simple",
        inputs(arrays),
        outputs=outputs(),
        request_compression_algorithm=request_compression,
        response_compression_algorithm=response_compression,
    )
    assert_answers(result, shared_models["simple"], arrays)


def test_floats(client, shared_models, rng):
    array = rng.standard_normal((4, 3), dtype=np.float32)
    for binary in (True, False):
        x = triton.InferInput("x", [4, 3], "FP32")
        x.set_data_from_numpy(array, binary_data=binary)
        y = triton.InferRequestedOutput("y", binary_data=binary)
        result = client.infer("affine", [x], outputs=[y])
        expected = models.reference(shared_models["affine"], x=array)["y"]
        np.testing.assert_allclose(result.as_numpy("y"), expected, rtol=1e-5, atol=1e-5)


def test_sequences_are_refused_by_name(client, rng):
    sequence = {"sequence_id": 7, "sequence_start": True, "sequence_end": True}
    with pytest.raises(InferenceServerException) as error:
        client.infer("simple", inputs(tensors(rng)), **sequence)
    assert error.value.status() == "501"
    assert "sequence_id" in error.value.message()


def test_what_asks_for_nothing_and_parameters_of_the_users_own_are_accepted(
    client, shared_models, rng
):
    arrays = tensors(rng)
    given = {"sequence_id": 0, "priority": 0, "timeout": 0, "parameters": {"my_own": "value"}}
    result = client.infer("simple", inputs(arrays), outputs=outputs(), **given)
    assert_answers(result, shared_models["simple"], arrays)


def test_all_outputs_come_when_none_is_named(client, shared_models, rng):
    arrays = tensors(rng)
    assert_answers(client.infer("simple", inputs(arrays)), shared_models["simple"], arrays)


def test_only_the_named_output_comes(client, rng):
    arrays = tensors(rng)
    result = client.infer(
        "simple", inputs(arrays), outputs=[triton.InferRequestedOutput("OUTPUT1")]
    )
    assert result.as_numpy("OUTPUT0") is None
    np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), arrays["INPUT0"] - arrays["INPUT1"])


def test_id_model_and_version_come_back(client, rng):
    result = client.infer("simple", inputs(tensors(rng)), model_version="1", request_id="request 7")
    answer = result.get_response()
    assert answer["id"] == "request 7"
    assert answer["model_name"] == "simple"
    assert answer["model_version"] == "1"


def test_async_requests(client, shared_models, rng):
    sent = [tensors(rng) for _ in range(32)]
    waiting = [client.async_infer("simple", inputs(arrays)) for arrays in sent]
    for arrays, request in zip(sent, waiting, strict=True):
        assert_answers(request.get_result(timeout=SOON_S), shared_models["simple"], arrays)


def test_asyncio_client(server, shared_models, rng):
    sent = [tensors(rng) for _ in range(16)]

    async def all_at_once():
        async with triton_aio.InferenceServerClient(server.http) as client:
            return await asyncio.gather(
                *(client.infer("simple", inputs(arrays, module=triton_aio)) for arrays in sent)
            )

    for arrays, result in zip(sent, asyncio.run(all_at_once()), strict=True):
        assert_answers(result, shared_models["simple"], arrays)


def test_connections_shared_by_clients(server, shared_models):
    """Requests on each connection follow each other; answers must not be mixed up."""

    def one_client(seed):
        rng = np.random.default_rng(seed)
        with triton.InferenceServerClient(server.http) as client:
            for _ in range(25):
                arrays = tensors(rng)
                assert_answers(
                    client.infer("simple", inputs(arrays)), shared_models["simple"], arrays
                )

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(one_client, range(8)))


def test_flat_and_nested_data_are_the_same(server):
    answers = []
    for data in ([1, 2, 3, 4, 5, 6], [[1, 2, 3], [4, 5, 6]]):
        request = {"inputs": [{"name": "x", "shape": [2, 3], "datatype": "FP32", "data": data}]}
        connection = http.client.HTTPConnection(server.http, timeout=SOON_S)
        connection.request("POST", "/v2/models/affine/infer", json.dumps(request))
        response = connection.getresponse()
        answers.append(json.loads(response.read())["outputs"])
        assert response.status == 200
        # Without a binary output there is no such header.
        assert response.getheader("Inference-Header-Content-Length") is None
        connection.close()
    assert answers[0] == answers[1]


def test_a_body_without_a_header_is_the_tensor(client, server, shared_models, rng):
    array = rng.standard_normal((1, 3), dtype=np.float32)
    connection = http.client.HTTPConnection(server.http, timeout=SOON_S)
    connection.request(
        "POST",
        "/v2/models/affine/infer",
        array.tobytes(),
        {"Inference-Header-Content-Length": "0", "Content-Type": "application/octet-stream"},
    )
    response = connection.getresponse()
    body = response.read()
    assert response.status == 200, body
    result = client.parse_response_body(
        body, header_length=int(response.getheader("Inference-Header-Content-Length") or 0) or None
    )
    connection.close()
    expected = models.reference(shared_models["affine"], x=array)["y"]
    np.testing.assert_allclose(result.as_numpy("y"), expected, rtol=1e-5, atol=1e-5)


def test_a_body_in_pieces(server):
    """A slow client's body arrives in many packets, with the tensor split between them."""
    array = np.arange(3, dtype=np.float32)
    x = triton.InferInput("x", [1, 3], "FP32")
    x.set_data_from_numpy(array.reshape(1, 3))
    body, length = triton.InferenceServerClient.generate_request_body([x])
    head = (
        f"POST /v2/models/affine/infer HTTP/1.1\r\nHost: test\r\nConnection: close\r\n"
        f"Inference-Header-Content-Length: {length}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    data = head.encode() + body
    host, port = server.http.split(":")
    with socket.create_connection((host, int(port)), timeout=SOON_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(data), 7):
            connection.sendall(data[start : start + 7])
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200"), answer


def test_health(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("simple")
    assert client.is_model_ready("simple", "1")
    assert not client.is_model_ready("unknown")


def test_server_metadata(client):
    metadata = client.get_server_metadata()
    assert metadata["name"]
    assert metadata["version"]
    # perf_analyzer asks for statistics only where this is listed.
    assert "statistics" in metadata["extensions"]


def test_model_metadata(client):
    metadata = client.get_model_metadata("simple")
    assert metadata["name"] == "simple"
    assert metadata["versions"] == ["1"]
    assert metadata["platform"]
    tensor = {"datatype": "INT32", "shape": [-1, 16]}
    assert metadata["inputs"] == [tensor | {"name": "INPUT0"}, tensor | {"name": "INPUT1"}]
    assert metadata["outputs"] == [tensor | {"name": "OUTPUT0"}, tensor | {"name": "OUTPUT1"}]


def test_model_config(client):
    config = client.get_model_config("simple")
    assert config["name"] == "simple"
    assert config["max_batch_size"] == 8
    # The batch dimension is not one of the configured ones.
    expected = {"name": "INPUT0", "data_type": "TYPE_INT32", "dims": [16]}
    found = config["input"][0]
    assert {key: found[key] for key in expected} | {
        "dims": list(map(int, found["dims"]))
    } == expected


def test_statistics_count_what_was_sent(client, rng):
    def statistics():
        (found,) = client.get_inference_statistics("simple")["model_stats"]
        return found

    before = statistics()
    for rows in (1, 3):
        client.infer("simple", inputs(tensors(rng, rows)))
    # The scheduler hears of a batch's end a moment after the client.
    executed = before["execution_count"] + 2
    eventually(lambda: statistics()["execution_count"] == executed, "two executions")
    after = statistics()
    assert after["name"] == "simple"
    assert after["inference_count"] - before["inference_count"] == 4
    for part in ("success", "queue", "compute_infer"):
        counts = [statistics["inference_stats"][part]["count"] for statistics in (before, after)]
        assert counts[1] - counts[0] == 2, part
    every = client.get_inference_statistics()["model_stats"]
    assert {"simple", "echo"} <= {found["name"] for found in every}


def test_repository_index(client):
    index = client.get_model_repository_index()
    found = {entry["name"]: entry for entry in index}
    assert found["simple"]["state"] == "READY"
    assert found["simple"]["version"] == "1"


@pytest.mark.parametrize(
    ("model", "version", "named"), [("unknown", "", "unknown"), ("simple", "9", "9")]
)
def test_unknown_models_are_named(client, rng, model, version, named):
    with pytest.raises(InferenceServerException) as error:
        client.infer(model, inputs(tensors(rng)), model_version=version)
    assert error.value.status() == "404"
    assert named in error.value.message()
