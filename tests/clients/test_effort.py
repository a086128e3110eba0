"""Models for which nobody states an objective: none is enforced."""

import signal
import threading

import pytest

import models
import wire
from symphony import IN_FLIGHT, USUAL, Server, eventually

ROW = [[1.0, 2.0, 3.0, 4.0]]
ROW_MS = 20
BOUND_S = 2
CONFIG = f"[server]\nrequest_max_s = {BOUND_S}\n" + USUAL


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    repository = tmp_path_factory.mktemp("models")
    # A detector: rows gain nothing by running together.
    models.write_emulated(
        repository, "detector", alpha_ms=ROW_MS, beta_ms=0, max_batch=8, slo_ms=None
    )
    # Three rows take longer than four times one, and than 100 ms.
    models.write_emulation(repository, "steep", "latency_ms = [10, 150, 400]\n", slo_ms=None)
    models.write_emulated(
        repository, "stuck", alpha_ms=0, beta_ms=1_500, max_batch=1, slo_ms=None, queue_max=2
    )
    with Server(repository, tmp_path_factory.mktemp("server"), config=CONFIG) as server:
        yield server


def ask(server, model, rows=1, **request):
    return wire.infer(server, model, wire.tensor(ROW * rows), **request)


def test_eight_clients_at_once_are_all_answered(server):
    def client():
        return [ask(server, "detector").status for _ in range(5)]

    assert wire.together([client] * 8) == [[200] * 5] * 8
    answered = server.total("symphony_requests_total", model="detector", outcome="good")
    within = server.total("symphony_within_objective_total", model="detector")
    assert answered == 40
    assert within <= answered


def test_a_lone_request_may_take_longer_than_the_model_is_planned_for(server):
    answer = ask(server, "steep", rows=3)
    assert answer.status == 200, answer
    assert server.total("symphony_within_objective_total", model="steep") == 0


def test_the_bound_on_every_request_is_named_and_the_next_one_is_served(server):
    answers = wire.together([lambda: ask(server, "stuck")] * 2)
    served, late = sorted(answers, key=lambda answer: answer.status)
    assert (served.status, late.status) == (200, 504), answers
    assert "request_max_s" in late.error
    assert f"{BOUND_S}" in late.error
    assert ask(server, "detector").status == 200
    eventually(lambda: server.total(IN_FLIGHT) == 0, "nothing in flight")


def test_a_request_keeps_its_own_limit(server):
    answer = ask(server, "detector", rows=8, parameters={"timeout": 100_000})
    assert answer.status == 504, answer
    assert "the request's own limit of 100" in answer.error


def test_a_full_queue_refuses(server):
    answers = wire.together([lambda: ask(server, "stuck").status] * 6)
    # One runs, two wait in vain, and for the others there is no room.
    assert sorted(answers) == [200, 429, 429, 429, 504, 504]
    eventually(lambda: server.total(IN_FLIGHT) == 0, "nothing in flight")


def test_a_long_queue_is_served_before_the_server_stops(start, tmp_path):
    models.write_emulated(
        tmp_path / "models", "slow", alpha_ms=0, beta_ms=300, max_batch=1, slo_ms=None
    )
    server = start(tmp_path / "models")
    answers = []
    calls = [lambda: ask(server, "slow").status] * 8
    asking = threading.Thread(target=lambda: answers.extend(wire.together(calls)))
    asking.start()
    eventually(lambda: server.total(IN_FLIGHT) == 8, "eight requests in flight")
    server.signal(signal.SIGTERM)
    asking.join()
    assert answers == [200] * 8
    assert server.process.wait() == 0


def test_the_start_says_which_models_have_no_objective(server):
    log = server.log.read_text()
    assert "detector 1: emulated, best effort" in log
    assert "no slo_ms: detector, steep, stuck" in log
    assert "symphony profile" in log
