"""tritonclient over gRPC: unary, asynchronous and streamed, compared with onnxruntime; and the
standard health and reflection services."""

import asyncio
import queue

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

import models
from symphony import SOON_S, eventually


@pytest.fixture
def client(server):
    with triton.InferenceServerClient(server.grpc) as client:
        yield client


@pytest.fixture
def channel(server):
    with grpc.insecure_channel(server.grpc) as channel:
        yield channel


def tensors(rng, rows=1):
    return {
        name: rng.integers(-1000, 1000, (rows, 16), dtype=np.int32) for name in ("INPUT0", "INPUT1")
    }


def inputs(arrays):
    made = []
    for name, array in arrays.items():
        made.append(triton.InferInput(name, list(array.shape), "INT32"))
        made[-1].set_data_from_numpy(array)
    return made


def assert_answers(result, path, arrays):
    for name, expected in models.reference(path, **arrays).items():
        np.testing.assert_array_equal(result.as_numpy(name), expected)


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_tensors(client, shared_models, rng, rows, compression):
    arrays = tensors(rng, rows)
    result = client.infer(
        "simple",
        inputs(arrays),
        request_id="request 7",
        client_timeout=SOON_S,
        compression_algorithm=compression,
    )
    assert_answers(result, shared_models["simple"], arrays)
    answer = result.get_response()
    assert (answer.id, answer.model_name, answer.model_version) == ("request 7", "simple", "1")
    assert [list(output.shape) for output in answer.outputs] == [[rows, 16]] * 2


def test_only_the_named_output_comes(client, rng):
    arrays = tensors(rng)
    result = client.infer(
        "simple", inputs(arrays), outputs=[triton.InferRequestedOutput("OUTPUT1")]
    )
    assert result.as_numpy("OUTPUT0") is None
    np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), arrays["INPUT0"] - arrays["INPUT1"])


SEQUENCE = {"sequence_id": 7, "sequence_start": True, "sequence_end": True}


def test_sequences_are_refused_by_name(client, rng):
    with pytest.raises(InferenceServerException) as error:
        client.infer("simple", inputs(tensors(rng)), **SEQUENCE)
    assert error.value.status() == "StatusCode.UNIMPLEMENTED"
    assert "sequence_id" in error.value.message()


def test_sequences_are_refused_by_name_in_a_stream(client, shared_models, rng):
    arrays = tensors(rng)
    request = {"model_name": "simple", "inputs": inputs(arrays)}
    (_, refused), (result, error) = stream_all(client, [request | SEQUENCE, request])
    assert "sequence_id" in refused.message()
    assert error is None
    assert_answers(result, shared_models["simple"], arrays)


def test_what_asks_for_nothing_and_parameters_of_the_users_own_are_accepted(
    client, shared_models, rng
):
    arrays = tensors(rng)
    given = {"sequence_id": "", "priority": 0, "timeout": 0, "parameters": {"my_own": 0.5}}
    result = client.infer("simple", inputs(arrays), **given)
    assert_answers(result, shared_models["simple"], arrays)


def test_async_requests(client, shared_models, rng):
    sent = {str(index): tensors(rng) for index in range(32)}
    answers = queue.Queue()
    for name, arrays in sent.items():
        client.async_infer(
            "simple",
            inputs(arrays),
            callback=lambda result, error: answers.put((result, error)),
            request_id=name,
        )
    while sent:
        result, error = answers.get(timeout=SOON_S)
        assert error is None, error
        assert_answers(result, shared_models["simple"], sent.pop(result.get_response().id))


def stream_all(client, requests, **options):
    """Sends every request on one stream; gives the answers in the order they came."""
    answers = queue.Queue()
    client.start_stream(callback=lambda result, error: answers.put((result, error)))
    try:
        for request in requests:
            client.async_stream_infer(**request, **options)
        return [answers.get(timeout=SOON_S) for _ in requests]
    finally:
        client.stop_stream()


@pytest.mark.parametrize("empty_final", [False, True])
def test_streaming(client, shared_models, rng, empty_final):
    sent = [tensors(rng, 1 + index % 3) for index in range(24)]
    requests = [
        {"model_name": "simple", "inputs": inputs(arrays), "request_id": str(index)}
        for index, arrays in enumerate(sent)
    ]
    answers = stream_all(client, requests, enable_empty_final_response=empty_final)
    seen = set()
    for result, error in answers:
        assert error is None, error
        answer = result.get_response()
        seen.add(answer.id)
        assert_answers(result, shared_models["simple"], sent[int(answer.id)])
        if empty_final:
            # One answer per request: each is also the last.
            assert answer.parameters["triton_final_response"].bool_param
    assert len(seen) == len(sent)


def test_an_error_in_a_stream_leaves_the_stream_open(client, shared_models, rng):
    arrays = tensors(rng)
    good = {"model_name": "simple", "inputs": inputs(arrays)}
    bad = {"model_name": "unknown", "inputs": inputs(arrays)}
    answers = stream_all(client, [good, bad, good])
    errors = [error for _, error in answers if error is not None]
    results = [result for result, error in answers if error is None]
    assert len(errors) == 1
    assert "unknown" in errors[0].message()
    for result in results:
        assert_answers(result, shared_models["simple"], arrays)


def test_asyncio_client(server, shared_models, rng):
    sent = [tensors(rng) for _ in range(16)]

    async def all_at_once():
        async with triton_aio.InferenceServerClient(server.grpc) as client:
            return await asyncio.gather(
                *(client.infer("simple", inputs(arrays)) for arrays in sent)
            )

    for arrays, result in zip(sent, asyncio.run(all_at_once()), strict=True):
        assert_answers(result, shared_models["simple"], arrays)


def test_asyncio_stream(server, shared_models, rng):
    sent = [tensors(rng) for _ in range(8)]

    async def requests():
        for index, arrays in enumerate(sent):
            yield {"model_name": "simple", "inputs": inputs(arrays), "request_id": str(index)}

    async def stream():
        async with triton_aio.InferenceServerClient(server.grpc) as client:
            answers = client.stream_infer(requests(), stream_timeout=SOON_S)
            return [answer async for answer in answers]

    answers = asyncio.run(stream())
    assert len(answers) == len(sent)
    for result, error in answers:
        assert error is None, error
        assert_answers(result, shared_models["simple"], sent[int(result.get_response().id)])


def test_typed_contents(channel, shared_models, rng):
    """Values in the message's own lists rather than as raw bytes; answers come raw."""
    arrays = tensors(rng, 2)
    request = service_pb2.ModelInferRequest(model_name="simple")
    for name, array in arrays.items():
        tensor = request.inputs.add(name=name, datatype="INT32", shape=array.shape)
        tensor.contents.int_contents.extend(array.ravel().tolist())
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    answer = stub.ModelInfer(request, timeout=SOON_S)
    assert_answers(triton.InferResult(answer), shared_models["simple"], arrays)
    assert len(answer.raw_output_contents) == 2


def test_health(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("simple")
    assert client.is_model_ready("simple", "1")
    assert not client.is_model_ready("unknown")


def test_metadata_and_config(client):
    assert "statistics" in client.get_server_metadata().extensions
    metadata = client.get_model_metadata("simple")
    assert (metadata.name, list(metadata.versions)) == ("simple", ["1"])
    assert [tensor.name for tensor in metadata.inputs] == ["INPUT0", "INPUT1"]
    assert list(metadata.outputs[1].shape) == [-1, 16]
    config = client.get_model_config("simple").config
    assert config.max_batch_size == 8
    assert list(config.input[0].dims) == [16]
    assert config.input[0].data_type == 8  # TYPE_INT32


def test_statistics_count_what_was_sent(client, rng):
    def statistics():
        (found,) = client.get_inference_statistics("simple").model_stats
        return found

    before = statistics()
    for rows in (1, 3):
        client.infer("simple", inputs(tensors(rng, rows)))
    # The scheduler hears of a batch's end a moment after the client.
    executed = before.execution_count + 2
    eventually(lambda: statistics().execution_count == executed, "two executions")
    after = statistics()
    assert after.inference_count - before.inference_count == 4
    assert after.inference_stats.success.count - before.inference_stats.success.count == 2
    assert after.inference_stats.success.ns > before.inference_stats.success.ns


def test_repository_index(client):
    index = {entry.name: entry for entry in client.get_model_repository_index().models}
    assert (index["simple"].state, index["simple"].version) == ("READY", "1")


@pytest.mark.parametrize(
    ("model", "version", "named"), [("unknown", "", "unknown"), ("simple", "9", "9")]
)
def test_unknown_models_are_named(client, rng, model, version, named):
    with pytest.raises(InferenceServerException) as error:
        client.infer(model, inputs(tensors(rng)), model_version=version)
    assert error.value.status() == "StatusCode.NOT_FOUND"
    assert named in error.value.message()


@pytest.mark.parametrize("service", ["", "inference.GRPCInferenceService"])
def test_standard_health_service(channel, service):
    stub = health_pb2_grpc.HealthStub(channel)
    answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=SOON_S)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_standard_health_service_knows_what_it_does_not_know(channel):
    stub = health_pb2_grpc.HealthStub(channel)
    with pytest.raises(grpc.RpcError) as error:
        stub.Check(health_pb2.HealthCheckRequest(service="unknown"), timeout=SOON_S)
    assert error.value.code() == grpc.StatusCode.NOT_FOUND


def test_reflection(channel):
    database = ProtoReflectionDescriptorDatabase(channel)
    services = database.get_services()
    assert {"inference.GRPCInferenceService", "grpc.health.v1.Health"} <= set(services)
    service = DescriptorPool(database).FindServiceByName("inference.GRPCInferenceService")
    request = service.FindMethodByName("ModelInfer").input_type
    # The descriptions are those the clients were built from.
    ours = service_pb2.ModelInferRequest.DESCRIPTOR.fields_by_number
    for number, field in request.fields_by_number.items():
        assert ours[number].name == field.name
