"""Input that is wrong: each gets an answer that names what is wrong, and leaves no trace.

The lists below are the specification: what is sent, the answer's code, and words its text holds.
"""

import contextlib
import gzip
import http.client
import json
import struct
import zlib
from dataclasses import dataclass, field

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2

import models
import wire
from symphony import IN_FLIGHT, USUAL, Server, eventually

BODY_MAX = 1 << 20
ROWS_MAX = 8
# Of requests that are queued in parts.
REQUEST_ROWS_MAX = 40
ROW = [[1.0, 2.0, 3.0]]
LENGTH = "Inference-Header-Content-Length"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    repository = tmp_path_factory.mktemp("models")
    models.write(repository, "affine", models.affine(), max_batch=ROWS_MAX)
    models.write(repository, "simple", models.simple(), max_batch=ROWS_MAX)
    models.write_emulated(
        repository, "text", alpha_ms=0, beta_ms=0.1, datatype="BYTES", max_batch=ROWS_MAX
    )
    folder = tmp_path_factory.mktemp("server")
    config = f"[server]\nbody_max_mib = 1\nrequest_rows_max = {REQUEST_ROWS_MAX}\n{USUAL}"
    with Server(repository, folder, config=config) as server:
        still_answers(server)
        yield server


@pytest.fixture(autouse=True)
def no_trace(server):
    """In-flight counts and file descriptors return to where they were, and the server answers."""
    files = server.open_files()
    yield
    assert server.process.poll() is None, server.log.read_text()
    still_answers(server)
    eventually(lambda: server.total(IN_FLIGHT) == 0, "nothing in flight")
    eventually(lambda: server.open_files() <= files, f"no more than {files} open files")
    assert "panicked" not in server.log.read_text()


def still_answers(server):
    answer = wire.infer(server, "affine", wire.tensor(ROW))
    assert answer.status == 200, answer
    np.testing.assert_allclose(answer.outputs()["y"]["data"], [9.0, -6.25], rtol=1e-5)


@dataclass
class Case:
    """One wrong HTTP request: what is sent, and what the answer must be."""

    status: int
    words: list
    body: object = b""
    model: str = "affine"
    headers: dict = field(default_factory=dict)
    version: str = ""

    def path(self):
        version = f"/versions/{self.version}" if self.version else ""
        return f"/v2/models/{self.model}{version}/infer"


def asking(*tensors, **request):
    return json.dumps({"inputs": list(tensors)} | request).encode()


def binary(*tensors, data=b"", length=None, **request):
    """A body of JSON and tensor bytes, and the header that says where the one ends."""
    text = asking(*tensors, **request)
    length = len(text) if length is None else length
    return {"body": text + data, "headers": {LENGTH: str(length)}}


def raw_tensor(size, shape=(1, 3), datatype="FP32", name="x"):
    parameters = {} if size is None else {"parameters": {"binary_data_size": size}}
    return {"name": name, "shape": list(shape), "datatype": datatype} | parameters


GOOD = wire.tensor(ROW)
TWELVE = bytes(12)
TEXT_4 = b"".join(struct.pack("<I", 1) + b"a" for _ in range(4))
FIRST = wire.tensor([[0] * 16], datatype="INT32", name="INPUT0")
SECOND = FIRST | {"name": "INPUT1"}

HTTP = {
    # The document.
    "empty body": Case(400, ["JSON"]),
    "not JSON": Case(400, ["JSON"], b"hello"),
    "truncated JSON": Case(400, ["JSON"], asking(GOOD)[:-3]),
    "JSON of another kind": Case(400, [], b"[1, 2]"),
    "not UTF-8": Case(400, [], b'{"inputs": "\xff"}'),
    "two documents": Case(400, [], asking(GOOD) * 2),
    "very deep JSON": Case(400, [], b"[" * 200_000),
    "very deep data": Case(
        400, [], asking(GOOD | {"data": "D"}).replace(b'"D"', b"[" * 10_000 + b"]" * 10_000)
    ),
    "no inputs": Case(400, ["inputs"], b"{}"),
    "inputs of another kind": Case(400, ["column 11"], b'{"inputs": {"x": 1}}'),
    # Names.
    "wrong name": Case(400, ["z", "x"], asking(GOOD | {"name": "z"})),
    "missing name": Case(
        400, ["name"], asking({k: GOOD[k] for k in ("shape", "datatype", "data")})
    ),
    "missing input": Case(400, ["INPUT1"], asking(FIRST), "simple"),
    "extra input": Case(400, ["y"], asking(GOOD, GOOD | {"name": "y"})),
    "doubled input": Case(400, ["INPUT0"], asking(FIRST, FIRST, SECOND), "simple"),
    "unknown output": Case(400, ["q"], asking(GOOD, outputs=[{"name": "q"}])),
    "doubled output": Case(400, ["y"], asking(GOOD, outputs=[{"name": "y"}, {"name": "y"}])),
    "unknown model": Case(404, ["nobody"], asking(GOOD), "nobody"),
    "unknown version": Case(404, ["affine", "7"], asking(GOOD), version="7"),
    "version of another kind": Case(404, ["latest"], asking(GOOD), version="latest"),
    "model name with a path": Case(404, [], asking(GOOD), "..%2F..%2Fetc"),
    # Types and shapes.
    "wrong datatype": Case(
        400, ["x", "INT32", "FP32"], asking(wire.tensor([[1, 2, 3]], datatype="INT32"))
    ),
    "unknown datatype": Case(400, ["FP33"], asking(GOOD | {"datatype": "FP33"})),
    "missing datatype": Case(
        400, ["datatype"], asking({k: GOOD[k] for k in ("name", "shape", "data")})
    ),
    "wrong width": Case(400, ["x", "4", "3"], asking(wire.tensor([[1.0] * 4]))),
    "wrong rank": Case(400, ["x", "[3]"], asking(wire.tensor([1.0, 2.0, 3.0]))),
    "no shape": Case(400, ["shape"], asking({k: GOOD[k] for k in ("name", "datatype", "data")})),
    "empty shape": Case(400, ["x"], asking(GOOD | {"shape": []})),
    "no rows": Case(400, ["x"], asking(GOOD | {"shape": [0, 3], "data": []})),
    "zero dimension": Case(400, ["x"], asking(GOOD | {"shape": [1, 0], "data": []})),
    "negative dimension": Case(400, ["x", "-1"], asking(GOOD | {"shape": [-1, 3]})),
    "overflowing dimensions": Case(400, ["x"], asking(GOOD | {"shape": [2**62, 3]})),
    "overflowing product": Case(400, ["x"], asking(GOOD | {"shape": [2**33, 2**33]})),
    "dimension over 64 bits": Case(400, [], asking(GOOD | {"shape": [2**64, 3]})),
    "fractional dimension": Case(400, [], asking(GOOD | {"shape": [1.5, 3]})),
    "too many rows": Case(
        400,
        ["x", str(REQUEST_ROWS_MAX + 1), str(REQUEST_ROWS_MAX), "request_rows_max"],
        asking(wire.tensor([[1.0] * 3] * (REQUEST_ROWS_MAX + 1))),
    ),
    "unequal rows": Case(
        400,
        ["INPUT1"],
        asking(FIRST, wire.tensor([[0] * 16] * 2, datatype="INT32", name="INPUT1")),
        "simple",
    ),
    # Data as JSON.
    "too little data": Case(400, ["x"], asking(GOOD | {"data": [1.0, 2.0]})),
    "too much data": Case(400, ["x"], asking(GOOD | {"data": [1.0] * 4})),
    "ragged data": Case(400, ["x"], asking(GOOD | {"shape": [2, 3], "data": [[1, 2, 3], [4, 5]]})),
    "no data": Case(400, ["x", "data"], asking(raw_tensor(None))),
    "text for a number": Case(400, ["x"], asking(GOOD | {"data": ["1", "2", "3"]})),
    "null for a number": Case(400, ["x"], asking(GOOD | {"data": [None] * 3})),
    "fraction for an integer": Case(
        400, ["INPUT0"], asking(FIRST | {"data": [1.5] * 16}, SECOND), "simple"
    ),
    "integer out of range": Case(
        400, ["INPUT0"], asking(FIRST | {"data": [2**31] * 16}, SECOND), "simple"
    ),
    "NaN for an integer": Case(
        400,
        ["INPUT0", "element 15", "NaN", "INT32"],
        asking(FIRST | {"data": [0] * 15 + [float("nan")]}, SECOND),
        "simple",
    ),
    "NaN as a dimension": Case(400, ["NaN", "byte"], asking(GOOD | {"shape": [1, float("nan")]})),
    "infinity as an id": Case(400, ["Infinity", "byte"], asking(GOOD, id=float("inf"))),
    "infinity out of place": Case(400, ["JSON"], asking(GOOD).replace(b"1.0", b"Infinity 1.0")),
    "number for a text": Case(400, ["x"], asking(wire.tensor([[1] * 4], [1, 4], "BYTES")), "text"),
    # Parameters.
    "sequence": Case(
        501,
        ["sequence_id", "7", "sequences are not supported"],
        asking(GOOD, parameters={"sequence_id": 7, "sequence_start": True, "sequence_end": False}),
    ),
    "sequence by name": Case(501, ["sequence_id"], asking(GOOD, parameters={"sequence_id": "a"})),
    "sequence without id": Case(
        501, ["sequence_end"], asking(GOOD, parameters={"sequence_end": True})
    ),
    "unknown reserved parameter": Case(
        501, ["triton_trace", "another name"], asking(GOOD, parameters={"triton_trace": 1})
    ),
    "headers as parameter": Case(501, ["headers"], asking(GOOD, parameters={"headers": {"a": 1}})),
    "parameter in the wrong place": Case(
        400, ["binary_data", "an output"], asking(GOOD, parameters={"binary_data": True})
    ),
    "limit on an input": Case(
        400, ["timeout", "x", "the request"], asking(GOOD | {"parameters": {"timeout": 5}})
    ),
    "parameter of another kind": Case(
        400, ["binary_data_output", "yes"], asking(GOOD, parameters={"binary_data_output": "yes"})
    ),
    "parameters of another kind": Case(400, ["parameters"], asking(GOOD, parameters=[1])),
    "doubled parameter": Case(
        400,
        ["timeout", "twice"],
        asking(GOOD, parameters={"timeout": 1}).replace(b"1}", b'1, "timeout": 2}'),
    ),
    "classification": Case(
        501,
        ["classification", "y"],
        asking(GOOD, outputs=[{"name": "y", "parameters": {"classification": 2}}]),
    ),
    "shared memory in": Case(
        501,
        ["shared_memory_region", "x"],
        asking(GOOD | {"parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 12}}),
    ),
    "shared memory out": Case(
        501,
        ["shared_memory_region", "y"],
        asking(GOOD, outputs=[{"name": "y", "parameters": {"shared_memory_region": "r"}}]),
    ),
    # Data as bytes.
    "bytes too short": Case(400, ["x"], **binary(raw_tensor(8), data=bytes(8))),
    "bytes too long": Case(400, ["x"], **binary(raw_tensor(16), data=bytes(16))),
    "fewer bytes than told": Case(400, ["x"], **binary(raw_tensor(12), data=bytes(8))),
    "bytes left over": Case(400, [], **binary(raw_tensor(12), data=bytes(20))),
    "negative size": Case(400, [], **binary(raw_tensor(-12), data=TWELVE)),
    "overflowing size": Case(400, [], **binary(raw_tensor(2**64 - 1), data=TWELVE)),
    "size of another kind": Case(400, [], **binary(raw_tensor("12"), data=TWELVE)),
    "size and data": Case(400, ["x"], **binary(GOOD | raw_tensor(12), data=TWELVE)),
    "text cut short": Case(
        400, ["x"], model="text", **binary(raw_tensor(19, (1, 4), "BYTES"), data=TEXT_4[:-1])
    ),
    "text longer than all": Case(
        400,
        ["x"],
        model="text",
        **binary(raw_tensor(20, (1, 4), "BYTES"), data=b"\xff\xff\xff\xff" + TEXT_4[4:]),
    ),
    "too few texts": Case(
        400, ["x"], model="text", **binary(raw_tensor(15, (1, 4), "BYTES"), data=TEXT_4[:15])
    ),
    # The header that says where the JSON ends.
    "header longer than the body": Case(400, [LENGTH], **binary(GOOD, length=1_000)),
    "header shorter than the JSON": Case(400, [], **binary(GOOD, length=10)),
    "negative header": Case(400, [LENGTH], **binary(GOOD, length=-1)),
    "header that is no number": Case(400, [LENGTH], **binary(GOOD, length="many")),
    "header over 64 bits": Case(400, [LENGTH], **binary(GOOD, length=2**64)),
    "raw body for two inputs": Case(400, ["simple"], bytes(64), "simple", {LENGTH: "0"}),
    "raw body of odd length": Case(400, ["x"], bytes(13), headers={LENGTH: "0"}),
    # Sizes and compression.
    "body over the limit": Case(413, [str(BODY_MAX), "body"], b" " * (BODY_MAX + 1)),
    "gzip bomb": Case(
        413,
        [str(BODY_MAX)],
        gzip.compress(b" " * (1 << 28), 1),
        headers={"Content-Encoding": "gzip"},
    ),
    "deflate bomb": Case(
        413,
        [str(BODY_MAX)],
        zlib.compress(b" " * (1 << 28), 1),
        headers={"Content-Encoding": "deflate"},
    ),
    "not gzip": Case(400, ["gzip"], asking(GOOD), headers={"Content-Encoding": "gzip"}),
    "truncated gzip": Case(
        400, ["gzip"], gzip.compress(asking(GOOD))[:-9], headers={"Content-Encoding": "gzip"}
    ),
    "unknown compression": Case(501, ["lzma"], asking(GOOD), headers={"Content-Encoding": "lzma"}),
}


@pytest.mark.parametrize("case", HTTP.values(), ids=HTTP)
def test_http(server, case):
    answer = send(server, case)
    assert answer.status == case.status, answer
    for word in case.words:
        assert word.lower() in answer.error.lower(), answer
    assert len(answer.error) < 2_000


def send(server, case):
    connection = http.client.HTTPConnection(server.http, timeout=60)
    with contextlib.closing(connection):
        # A body over the limit may be refused, and the connection closed, before it is all sent.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request("POST", case.path(), case.body, case.headers)
        return wire.Answer(connection.getresponse())


# Bytes that are no HTTP request at all: any refusal will do.
NO_HTTP = {
    "noise": bytes(range(256)) * 8,
    "gRPC on the HTTP port": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "two lengths": b"POST /v2/models/affine/infer HTTP/1.1\r\nHost: a\r\n"
    b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "negative length": b"POST /v2/models/affine/infer HTTP/1.1\r\nHost: a\r\n"
    b"Content-Length: -1\r\n\r\n",
    "endless header": b"GET / HTTP/1.1\r\nA: " + b"a" * 1_000_000,
    "body cut short": b"POST /v2/models/affine/infer HTTP/1.1\r\nHost: a\r\n"
    b"Content-Length: 1000\r\n\r\n{",
    "bad chunk": b"POST /v2/models/affine/infer HTTP/1.1\r\nHost: a\r\n"
    b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
}


@pytest.mark.parametrize("data", NO_HTTP.values(), ids=NO_HTTP)
def test_what_is_no_http(server, data):
    try:
        answer = server.raw(data)
    except ConnectionError:
        return
    assert not answer.startswith(b"HTTP/1.1 2"), answer


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/affine/infer", 405),
        ("GET", "/nowhere", 404),
        ("GET", "/v2/models/nobody", 404),
        ("GET", "/v2/models/nobody/config", 404),
        ("GET", "/v2/models/nobody/stats", 404),
        ("GET", "/v2/models/affine/versions/9/stats", 404),
        ("POST", "/v2/repository/models/nobody/load", 404),
        ("POST", "/v2/repository/models/..%2Fnobody/load", 404),
        ("POST", "/v2/repository/models/nobody/unload", 404),
    ],
)
def test_routes(server, method, path, status):
    answer = wire.call(server, method, path, b"" if method == "POST" else None)
    assert answer.status == status, answer
    assert answer.error


def changed(**fields):
    """A good gRPC request, but for some fields of its one input."""

    def make():
        request = wire.message("affine", ROW)
        for name, value in fields.items():
            if name == "shape":
                request.inputs[0].ClearField("shape")
                request.inputs[0].shape.extend(value)
            elif name == "raw":
                del request.raw_input_contents[:]
                request.raw_input_contents.extend(value)
            else:
                setattr(request.inputs[0], name, value)
        return request

    return make


def of_model(model, version=""):
    def make():
        request = wire.message(model, ROW)
        request.model_version = version
        return request

    return make


def doubled():
    request = wire.message("affine", ROW)
    request.inputs.append(request.inputs[0])
    request.raw_input_contents.append(request.raw_input_contents[0])
    return request


def both_forms():
    request = wire.message("affine", ROW)
    request.inputs[0].contents.fp32_contents.extend(ROW[0])
    return request


def wrong_list():
    request = changed(raw=[])()
    request.inputs[0].contents.int64_contents.extend([1, 2, 3])
    return request


def short_list():
    request = changed(raw=[])()
    request.inputs[0].contents.fp32_contents.extend([1, 2])
    return request


def unknown_output():
    request = wire.message("affine", ROW)
    request.outputs.add(name="q")
    return request


def sequence():
    request = wire.message("affine", ROW, sequence_id=7)
    request.parameters["sequence_start"].bool_param = True
    return request


def classified():
    request = wire.message("affine", ROW)
    request.outputs.add(name="y").parameters["classification"].int64_param = 2
    return request


def shared_output():
    request = wire.message("affine", ROW)
    request.outputs.add(name="y").parameters["shared_memory_region"].string_param = "r"
    return request


INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
UNSUPPORTED = grpc.StatusCode.UNIMPLEMENTED
GRPC = {
    "empty message": (NOT_FOUND, [], service_pb2.ModelInferRequest),
    "unknown model": (NOT_FOUND, ["nobody"], of_model("nobody")),
    "unknown version": (NOT_FOUND, ["affine", "7"], of_model("affine", "7")),
    "wrong name": (INVALID, ["z", "x"], changed(name="z")),
    "wrong datatype": (INVALID, ["x", "INT32", "FP32"], changed(datatype="INT32")),
    "unknown datatype": (INVALID, ["FP33"], changed(datatype="FP33")),
    "wrong width": (INVALID, ["x"], changed(shape=[1, 4], raw=[bytes(16)])),
    "wrong rank": (INVALID, ["x"], changed(shape=[3])),
    "empty shape": (INVALID, ["x"], changed(shape=[])),
    "no rows": (INVALID, ["x"], changed(shape=[0, 3], raw=[b""])),
    "negative dimension": (INVALID, ["x", "-1"], changed(shape=[-1, 3])),
    "overflowing dimensions": (INVALID, ["x"], changed(shape=[2**62, 3])),
    "overflowing product": (INVALID, ["x"], changed(shape=[2**33, 2**33])),
    "too many rows": (
        INVALID,
        ["x", "request_rows_max"],
        changed(shape=[REQUEST_ROWS_MAX + 1, 3], raw=[bytes((REQUEST_ROWS_MAX + 1) * 12)]),
    ),
    "bytes too short": (INVALID, ["x"], changed(raw=[bytes(8)])),
    "bytes too long": (INVALID, ["x"], changed(raw=[bytes(16)])),
    "more buffers than inputs": (INVALID, [], changed(raw=[TWELVE, TWELVE])),
    "no contents": (INVALID, ["x"], changed(raw=[])),
    "contents in both forms": (INVALID, ["x"], both_forms),
    "contents of another type": (INVALID, ["x"], wrong_list),
    "too little contents": (INVALID, ["x"], short_list),
    "doubled input": (INVALID, ["x"], doubled),
    "missing input": (INVALID, ["x"], lambda: service_pb2.ModelInferRequest(model_name="affine")),
    "unknown output": (INVALID, ["q"], unknown_output),
    "bad timeout": (INVALID, ["timeout"], lambda: wire.message("affine", ROW, timeout=-1)),
    "sequence": (UNSUPPORTED, ["sequence_id", "7", "sequences are not supported"], sequence),
    "unknown reserved parameter": (
        UNSUPPORTED,
        ["triton_trace", "another name"],
        lambda: wire.message("affine", ROW, triton_trace=1),
    ),
    "classification": (UNSUPPORTED, ["classification", "y"], classified),
    "shared memory out": (UNSUPPORTED, ["shared_memory_region", "y"], shared_output),
}


@pytest.mark.parametrize("case", GRPC.values(), ids=GRPC)
def test_grpc(server, case):
    expected, words, make = case
    code, text = wire.refused(server, make())
    assert code == expected, text
    for word in words:
        assert word.lower() in text.lower(), text


def test_a_grpc_message_over_the_limit(server):
    code, text = wire.refused(server, changed(raw=[bytes(2 * BODY_MAX)])())
    # The limit of the transport, which has its own code for it, and room for what is not tensors.
    assert code in (grpc.StatusCode.OUT_OF_RANGE, grpc.StatusCode.RESOURCE_EXHAUSTED), text
    assert "limit" in text


def test_bytes_that_are_no_message(server):
    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=lambda data: data,
            response_deserializer=lambda data: data,
        )
        with pytest.raises(grpc.RpcError) as error:
            call(b"\xff" * 100, timeout=60)
    assert error.value.code() in (grpc.StatusCode.INTERNAL, INVALID)


def test_others_are_untouched(server):
    """Good and wrong requests at once: every good one is answered, every wrong one refused."""
    good = [lambda: wire.infer(server, "affine", wire.tensor(ROW)).status] * 8
    wrong = [lambda case=case: send(server, case).status for case in list(HTTP.values())[:16]]
    found = wire.together([call for pair in zip(wrong, good * 2, strict=True) for call in pair])
    assert found.count(200) == 16
