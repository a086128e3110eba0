"""Deadlines, full queues and clients that leave: who is told what, over both protocols."""

import http.client
import json

import grpc
import pytest

import models
import wire
from symphony import IN_FLIGHT, USUAL, Server, eventually, total

# One request of this takes longer than any deadline the tests ask for, and less than its objective.
GLACIAL_MS = 3_000
ROW = [[1.0, 2.0, 3.0, 4.0]]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    repository = tmp_path_factory.mktemp("models")
    models.write_emulated(
        repository, "glacial", alpha_ms=0, beta_ms=GLACIAL_MS, max_batch=1, slo_ms=30_000
    )
    models.write_emulated(repository, "tight", alpha_ms=0, beta_ms=300, max_batch=1, slo_ms=500)
    models.write_emulated(
        repository, "narrow", alpha_ms=0, beta_ms=500, max_batch=1, slo_ms=60_000, queue_max=2
    )
    with Server(repository, tmp_path_factory.mktemp("server"), config=USUAL) as server:
        yield server


@pytest.fixture(autouse=True)
def nothing_is_left(server):
    yield
    eventually(lambda: server.total(IN_FLIGHT) == 0, "nothing in flight")


def assert_explains(text, model, limit):
    """Names the model, the limit that was missed, the time in the queue, and why."""
    assert model in text
    assert limit in text
    assert "queue" in text
    assert "drop" in text or "still" in text, text


# A request's own limit, in the forms it can take, and how long it is.
HTTP_LIMITS = {
    "parameter": ({"parameters": {"timeout": 1_000_000}}, {}, "1000"),
    "header": ({}, {"Request-Timeout-Ms": "1200"}, "1200"),
    "parameter-earlier": (
        {"parameters": {"timeout": 1_000_000}},
        {"Request-Timeout-Ms": "9000"},
        "1000",
    ),
    "header-earlier": (
        {"parameters": {"timeout": 9_000_000}},
        {"Request-Timeout-Ms": "1200"},
        "1200",
    ),
}


@pytest.mark.parametrize("form", HTTP_LIMITS)
def test_a_limit_that_cannot_be_met_is_refused_http(server, form):
    request, headers, limit = HTTP_LIMITS[form]
    answer = wire.infer(server, "glacial", wire.tensor(ROW), headers=headers, **request)
    assert answer.status == 504, answer
    assert_explains(answer.error, "glacial", limit)


@pytest.mark.parametrize(
    ("timeout", "parameters", "limit"),
    [
        pytest.param(20, {"timeout": 1_000_000}, "1000", id="parameter"),
        # The client rounds what it was given up to 10 ms.
        pytest.param(2, {"timeout": 9_000_000}, "20", id="grpc-timeout"),
    ],
)
def test_a_limit_that_cannot_be_met_is_refused_grpc(server, timeout, parameters, limit):
    code, text = wire.refused(server, wire.message("glacial", ROW, **parameters), timeout)
    assert code == grpc.StatusCode.DEADLINE_EXCEEDED
    assert_explains(text, "glacial", limit)


@pytest.mark.parametrize("value", ["0", "-5", "soon", "1e400", ""])
def test_a_limit_that_is_none_is_refused(server, value):
    headers = {"Request-Timeout-Ms": value}
    answer = wire.infer(server, "glacial", wire.tensor(ROW), headers=headers)
    assert answer.status == 400, answer
    assert "request-timeout-ms" in answer.error.lower()


@pytest.mark.parametrize("value", [0, "0", None])
def test_a_timeout_of_zero_is_no_limit(server, value):
    answer = wire.infer(server, "narrow", wire.tensor(ROW), parameters={"timeout": value})
    assert answer.status == 200, answer


def test_a_timeout_of_zero_is_no_limit_over_grpc(server):
    with wire.stub(server) as service:
        answer = service.ModelInfer(wire.message("narrow", ROW, timeout=0), timeout=30)
    assert answer.model_name == "narrow"


@pytest.mark.parametrize("value", [-5, "soon", 1.5, True, [1]])
def test_a_timeout_parameter_that_is_none_is_refused(server, value):
    answer = wire.infer(server, "glacial", wire.tensor(ROW), parameters={"timeout": value})
    assert answer.status == 400, answer
    assert "timeout" in answer.error


def test_a_limit_cannot_be_later_than_the_objective(server):
    """Six requests of 300 ms and 500 ms to do them in: the limit they ask for does not help."""
    parameters = {"parameters": {"timeout": 60_000_000}}
    answers = wire.together(
        [lambda: wire.infer(server, "tight", wire.tensor(ROW), **parameters) for _ in range(6)]
    )
    missed = [answer for answer in answers if answer.status == 504]
    assert len(missed) >= 4
    assert {answer.status for answer in answers} <= {200, 504}
    for answer in missed:
        assert_explains(answer.error, "tight", "500")


def test_a_missed_objective_over_grpc(server):
    def one():
        with wire.stub(server) as service:
            try:
                service.ModelInfer(wire.message("tight", ROW), timeout=30)
            except grpc.RpcError as error:
                return error.code(), error.details()
            return grpc.StatusCode.OK, ""

    missed = [found for found in wire.together([one] * 6) if found[0] != grpc.StatusCode.OK]
    assert len(missed) >= 4
    for code, text in missed:
        assert code == grpc.StatusCode.DEADLINE_EXCEEDED
        assert_explains(text, "tight", "500")


def test_a_full_queue_over_http(server):
    answers = wire.together(
        [lambda: wire.infer(server, "narrow", wire.tensor(ROW)) for _ in range(12)]
    )
    refused = [answer for answer in answers if answer.status != 200]
    assert len(refused) >= 6
    assert len(refused) < 12
    for answer in refused:
        assert answer.status == 429, answer
        assert int(answer.headers["Retry-After"]) >= 1
        assert "narrow" in answer.error


def test_a_full_queue_over_grpc(server):
    with wire.stub(server) as service:
        calls = [
            service.ModelInfer.future(wire.message("narrow", ROW), timeout=30) for _ in range(12)
        ]
        refused = [call for call in calls if call.exception() is not None]
        assert 6 <= len(refused) < 12
        for call in refused:
            assert call.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "narrow" in call.details()


def sent_and_left(server, count):
    """Sends HTTP requests and closes their connections while they wait."""
    body = json.dumps({"inputs": [wire.tensor(ROW)]})
    connections = [http.client.HTTPConnection(server.http) for _ in range(count)]
    for connection in connections:
        connection.request("POST", "/v2/models/glacial/infer", body)
    eventually(lambda: server.total(IN_FLIGHT) == count, f"{count} requests in flight")
    for connection in connections:
        connection.close()


def test_who_leaves_is_taken_out_of_the_queue_http(server):
    before = server.scrape()
    sent_and_left(server, 5)
    # Were they still queued, five of them would take 15 s.
    eventually(
        lambda: server.total(IN_FLIGHT) == 0, "all are out of the queue", 2 * GLACIAL_MS / 1000
    )
    assert cancelled(server) - cancelled(server, before) == 5


def test_who_leaves_is_taken_out_of_the_queue_grpc(server):
    before = server.scrape()
    with wire.stub(server) as service:
        calls = [
            service.ModelInfer.future(wire.message("glacial", ROW), timeout=30) for _ in range(5)
        ]
        eventually(lambda: server.total(IN_FLIGHT) == 5, "five requests in flight")
        for call in calls:
            call.cancel()
        eventually(lambda: server.total(IN_FLIGHT) == 0, "all are out of the queue")
    assert cancelled(server) - cancelled(server, before) == 5


def cancelled(server, samples=None):
    return total(
        samples or server.scrape(), "symphony_requests_total", model="glacial", outcome="cancelled"
    )
