"""Accelerators are taken out of the pool and put back while clients are served."""

import json

import grpc
import pytest
import tritonclient.grpc as triton
from grpc_health.v1 import health_pb2, health_pb2_grpc

import models
import wire
from symphony import SOON_S, eventually

ALL = "/v2/scheduler/accelerators"
ROW = [1.0, 2.0, 3.0, 4.0]
CLIENTS = 4
TWO = """
[backend]
accelerators = 2
threads = 1
"""


@pytest.fixture
def server(start, tmp_path):
    models.write_emulated(tmp_path / "models", "echo", alpha_ms=0.1, beta_ms=5, max_batch=4)
    return start(tmp_path / "models", TWO)


def states(server):
    """What each accelerator is as the server shows it, and as its metrics do."""
    answer = wire.call(server, "GET", ALL)
    assert answer.status == 200, answer
    lines = json.loads(answer.body)["accelerators"]
    assert [line["accelerator"] for line in lines] == list(range(len(lines)))
    return [line["state"] for line in lines]


def gauge(server, number, state):
    return server.total("symphony_accelerator_state", accelerator=str(number), state=state)


def batches(server, number):
    return server.total("symphony_accelerator_batches_total", accelerator=str(number))


def change(server, number, what):
    answer = wire.call(server, "POST", f"{ALL}/{number}/{what}")
    assert answer.status == 200, answer
    line = json.loads(answer.body)
    assert line["accelerator"] == number
    return line["state"]


def infer(server):
    return wire.infer(server, "echo", wire.tensor([ROW])).status


def test_one_of_two_is_drained_and_resumed_under_load_and_no_request_fails(server):
    assert states(server) == ["serving", "serving"]
    done = []

    def client():
        # Until it has been seen what there is to see, and some requests more.
        answers = []
        while not done:
            answers.append(infer(server))
        return answers + [infer(server) for _ in range(5)]

    def operator():
        try:
            eventually(lambda: batches(server, 0), "the first one is used")
            assert change(server, 0, "drain") in ("draining", "away")
            eventually(lambda: states(server) == ["away", "serving"], "it runs empty")
            before = [batches(server, number) for number in (0, 1)]
            assert (gauge(server, 0, "away"), gauge(server, 0, "serving")) == (1, 0)
            eventually(lambda: batches(server, 1) > before[1] + 10, "the other one serves")
            assert batches(server, 0) == before[0]
            assert change(server, 0, "resume") == "serving"
            eventually(lambda: batches(server, 0) > before[0], "it is used again")
        finally:
            done.append(True)
        return [200]

    answers = wire.together([client] * CLIENTS + [operator])
    assert {status for statuses in answers for status in statuses} == {200}
    assert states(server) == ["serving", "serving"]


def test_what_is_done_twice_is_harmless_and_without_any_requests_wait(server):
    for _ in range(2):
        for number in (0, 1):
            assert change(server, number, "drain") == "away"

    def resume():
        eventually(lambda: server.total("symphony_queued_requests") == 1, "a request waits")
        for _ in range(2):
            assert change(server, 1, "resume") == "serving"
        return 200

    assert wire.together([lambda: infer(server), resume]) == [200, 200]
    assert states(server) == ["away", "serving"]
    assert "no accelerator serves" in server.log.read_text()


def probe(server, path):
    """The status of a readiness probe, and its body."""
    answer = wire.call(server, "GET", path)
    return answer.status, json.loads(answer.body)


def ready_over_grpc(server):
    """What each of the ways to ask says."""
    serving = health_pb2.HealthCheckResponse.SERVING
    with (
        triton.InferenceServerClient(server.grpc) as client,
        grpc.insecure_channel(server.grpc) as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel)

        def check(service):
            request = health_pb2.HealthCheckRequest(service=service)
            return health.Check(request, timeout=SOON_S).status == serving

        return {
            "server": client.is_server_ready(),
            "model": client.is_model_ready("echo"),
            "health": check(""),
            "health of the service": check("inference.GRPCInferenceService"),
            "health of the model": check("echo"),
            "live": client.is_server_live() and check("live"),
        }


def test_it_is_ready_while_any_accelerator_serves_and_alive_without(server):
    def expect(ready):
        status, body = probe(server, "/v2/health/ready")
        assert (status, body["ready"]) == ((200, True) if ready else (503, False))
        assert ready or ALL in body["error"], body
        status, body = probe(server, "/v2/models/echo/ready")
        assert (status, body["name"], body["ready"]) == (200 if ready else 503, "echo", ready)
        assert server.status("/v2/health/live") == 200
        found = ready_over_grpc(server)
        assert found.pop("live")
        assert set(found.values()) == {ready}, found
        assert server.total("symphony_ready") == ready

    expect(True)
    change(server, 0, "drain")
    expect(True)
    change(server, 1, "drain")
    expect(False)
    change(server, 0, "resume")
    expect(True)
    assert infer(server) == 200


@pytest.mark.parametrize("name", ["2", "-1", "4294967296", "x", "%20"])
def test_what_is_no_accelerator_is_not_found(server, name):
    for what in ("drain", "resume"):
        answer = wire.call(server, "POST", f"{ALL}/{name}/{what}")
        assert answer.status == 404, answer
        assert "there is no accelerator" in answer.error and ALL in answer.error
    assert wire.call(server, "GET", f"{ALL}/0/drain").status == 405
    assert states(server) == ["serving", "serving"]
