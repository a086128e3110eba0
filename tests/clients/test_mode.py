"""The scheduling mode: the usual one, seen from clients that wait for their answers, and changed
while requests are queued.

Objectives are so long that a request which is answered near the end of its own is not answered
within any test's patience.
"""

import json

import pytest

import models
import wire
from symphony import SOON_S, eventually

ROW = [1.0, 2.0, 3.0, 4.0]
OBJECTIVE_S = 3600
CLIENTS = 4


@pytest.fixture
def server(start, tmp_path):
    models.write_emulated(
        tmp_path / "models",
        "echo",
        alpha_ms=0.1,
        beta_ms=5,
        max_batch=16,
        slo_ms=OBJECTIVE_S * 1000,
    )
    return start(tmp_path / "models")


def infer(server):
    return wire.infer(server, "echo", wire.tensor([ROW])).status


def set_mode(server, mode):
    answer = wire.call(server, "POST", "/v2/scheduler/mode", json.dumps({"mode": mode}))
    assert (answer.status, json.loads(answer.body)) == (200, {"mode": mode})
    assert shown_mode(server) == mode


def shown_mode(server):
    """The mode as the server shows it, and as its metrics do."""
    answer = wire.call(server, "GET", "/v2/scheduler/mode")
    assert answer.status == 200, answer
    (mode,) = json.loads(answer.body).values()
    modes = ("adaptive", "consolidate", "eager")
    shown = {name: server.total("symphony_pool_mode", mode=name) for name in modes}
    assert shown == {name: name == mode for name in modes}
    return mode


def closed_loop(server, requests):
    """So many requests from each of some clients, each sent when the one before is answered."""

    def client():
        return [infer(server) for _ in range(requests)]

    return [status for answers in wire.together([client] * CLIENTS) for status in answers]


def test_clients_that_wait_for_answers_get_them_soon(server):
    assert shown_mode(server) == "adaptive"
    assert set(closed_loop(server, 20)) == {200}
    samples = server.scrape()
    sizes = [value for (name, _), value in samples.items() if name == "symphony_plan_target_rows"]
    assert sizes, "the plan is on the page"
    # Had they waited for each other, the sum would be of the order of the objective.
    (seconds,) = [v for (name, _), v in samples.items() if name == "symphony_request_seconds_sum"]
    assert seconds < SOON_S


@pytest.mark.parametrize("mode", ["adaptive", "eager"])
def test_a_switch_loses_nothing_and_frees_what_was_held_back(server, mode):
    assert set(closed_loop(server, 20)) == {200}
    set_mode(server, "consolidate")

    def held_back():
        return server.total("symphony_queued_requests") == 3

    def switch():
        eventually(held_back, "requests that wait for company")
        set_mode(server, mode)
        return 200

    # The three are too few for the largest batch, and far from their deadline.
    answers = wire.together([lambda: infer(server)] * 3 + [switch])
    assert answers == [200] * 4
    assert server.total("symphony_requests_total") == 20 * CLIENTS + 3
    assert server.total("symphony_requests_total", outcome="good") == 20 * CLIENTS + 3
    text = server.log.read_text()
    assert "scheduling in another mode" in text


def test_switching_under_load_loses_nothing(server):
    def switch():
        for mode in ("eager", "adaptive") * 10:
            set_mode(server, mode)
        return [200]

    def client():
        return [infer(server) for _ in range(40)]

    answers = wire.together([client] * CLIENTS + [switch])
    assert {status for statuses in answers for status in statuses} == {200}


def test_what_is_no_mode_is_refused(server):
    for body in ('{"mode": "deferred"}', '{"mode": 1}', "{}", "", "[", '"eager"'):
        answer = wire.call(server, "POST", "/v2/scheduler/mode", body)
        assert answer.status == 400, body
        assert "adaptive" in answer.error, body
    assert wire.call(server, "PUT", "/v2/scheduler/mode", "{}").status == 405
    assert shown_mode(server) == "adaptive"
