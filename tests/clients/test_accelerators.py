"""Accelerators are taken out of the pool and put back while clients are served."""

import json

import pytest

import models
import wire
from symphony import eventually

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


@pytest.mark.parametrize("name", ["2", "-1", "4294967296", "x", "%20"])
def test_what_is_no_accelerator_is_not_found(server, name):
    for what in ("drain", "resume"):
        answer = wire.call(server, "POST", f"{ALL}/{name}/{what}")
        assert answer.status == 404, answer
        assert "there is no accelerator" in answer.error and ALL in answer.error
    assert wire.call(server, "GET", f"{ALL}/0/drain").status == 405
    assert states(server) == ["serving", "serving"]
