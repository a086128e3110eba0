"""Requests written by hand, where a client library would not let a test say what it wants to say.

Plain HTTP and plain gRPC messages for models with one input `x`; knows nothing of how the server is
started.
"""

import contextlib
import http.client
import json
import queue
import threading

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from symphony import SOON_S

NUMPY = {"FP32": np.float32, "INT32": np.int32}


class Answer:
    """An HTTP answer: status, headers, body."""

    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def error(self):
        """The text of an error body, which is always the same JSON object."""
        found = json.loads(self.body)
        assert set(found) == {"error"}, found
        return found["error"]

    def outputs(self):
        return {output["name"]: output for output in json.loads(self.body)["outputs"]}

    def __repr__(self):
        return f"{self.status} {self.body[:1000]!r}"


def call(server, method, path, body=None, headers=None):
    """One HTTP request over a connection of its own."""
    connection = http.client.HTTPConnection(server.http, timeout=SOON_S)
    with contextlib.closing(connection):
        connection.request(method, path, body, headers or {})
        return Answer(connection.getresponse())


def tensor(data, shape=None, datatype="FP32", name="x", **extra):
    array = np.array(data, NUMPY.get(datatype))
    return {
        "name": name,
        "shape": list(array.shape) if shape is None else shape,
        "datatype": datatype,
        "data": array.ravel().tolist(),
    } | extra


def infer(server, model, *tensors, headers=None, **request):
    """A JSON inference."""
    body = json.dumps({"inputs": list(tensors)} | request)
    return call(server, "POST", f"/v2/models/{model}/infer", body, headers)


def message(model, data, **parameters):
    """A gRPC inference request of one FP32 tensor `x`."""
    array = np.array(data, np.float32)
    request = service_pb2.ModelInferRequest(model_name=model)
    request.inputs.add(name="x", datatype="FP32", shape=array.shape)
    request.raw_input_contents.append(array.tobytes())
    for name, value in parameters.items():
        request.parameters[name].int64_param = value
    return request


@contextlib.contextmanager
def stub(server):
    with grpc.insecure_channel(server.grpc) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def refused(server, request, timeout=SOON_S):
    """Sends a gRPC inference that must fail: its code and its text."""
    with stub(server) as service:
        try:
            answer = service.ModelInfer(request, timeout=timeout)
        except grpc.RpcError as error:
            return error.code(), error.details()
    raise AssertionError(f"it was answered: {answer}")


def together(calls):
    """Runs the calls at the same time, each in a thread; their results in no order."""
    results = queue.Queue()

    def run(call):
        try:
            results.put(call())
        except Exception as error:
            results.put(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    found = [results.get(timeout=2 * SOON_S) for _ in threads]
    for thread in threads:
        thread.join()
    for result in found:
        if isinstance(result, Exception):
            raise result
    return found
