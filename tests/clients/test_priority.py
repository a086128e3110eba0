"""Requests of high and low priority: the parameter over both protocols, and who goes first."""

import threading

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http

import models
import wire
from symphony import IN_FLIGHT, USUAL, Server, eventually, total

ROW = [[1.0, 2.0, 3.0, 4.0]]
# Long enough for some requests to queue behind one.
SLOW_MS = 1500


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    repository = tmp_path_factory.mktemp("models")
    fast = {"alpha_ms": 0, "beta_ms": 5}
    models.write_emulated(repository, "equal", **fast)
    models.write_emulated(repository, "background", priority="low", **fast)
    slow = {"alpha_ms": 0, "beta_ms": SLOW_MS, "max_batch": 1}
    models.write_emulated(repository, "single", **slow)
    models.write_emulated(repository, "narrow", queue_max=2, **slow)
    with Server(repository, tmp_path_factory.mktemp("server"), config=USUAL) as server:
        yield server


@pytest.fixture(autouse=True)
def nothing_is_left(server):
    yield
    eventually(lambda: server.total(IN_FLIGHT) == 0, "nothing in flight")


def triton(kind, url):
    client = kind.InferenceServerClient(url)
    tensor = kind.InferInput("x", [1, 4], "FP32")
    tensor.set_data_from_numpy(np.array(ROW, np.float32))
    return client, [tensor]


def good(server, model, of):
    return total(
        server.scrape(),
        "symphony_class_requests_total",
        model=model,
        outcome="good",
        **{"class": of},
    )


@pytest.mark.parametrize("kind", [triton_http, triton_grpc], ids=["http", "grpc"])
@pytest.mark.parametrize(
    ("model", "priority", "expected"),
    [
        ("equal", 0, "high"),
        ("equal", 1, "high"),
        ("equal", 2, "low"),
        ("background", 0, "low"),
        ("background", 1, "high"),
    ],
)
def test_the_parameter_names_the_class(server, kind, model, priority, expected):
    client, inputs = triton(kind, server.http if kind is triton_http else server.grpc)
    before = good(server, model, expected)
    client.infer(model, inputs, priority=priority)
    client.close()
    assert good(server, model, expected) == before + 1


@pytest.mark.parametrize("value", [3, -1, 1.5, "high", "", True, [1], 10**30])
def test_other_values_are_refused_over_http(server, value):
    answer = wire.infer(server, "equal", wire.tensor(ROW), parameters={"priority": value})
    assert answer.status == 400, answer
    assert "priority" in answer.error
    assert "1 (high), 2 (low)" in answer.error


@pytest.mark.parametrize("value", [3, -1])
def test_other_values_are_refused_over_grpc(server, value):
    code, text = wire.refused(server, wire.message("equal", ROW, priority=value))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "priority" in text
    assert "1 (high), 2 (low)" in text


def test_the_configuration_tells_the_levels(server):
    client, _ = triton(triton_http, server.http)
    for model, level in (("equal", 1), ("background", 2)):
        batching = client.get_model_config(model)["dynamic_batching"]
        assert batching["priority_levels"] == 2
        assert batching["default_priority_level"] == level
    client.close()


def queued(server, model, priorities, queue_max):
    """Asks in this order while the first request runs; the answers as they come, by priority."""
    answers = []

    def ask(priority):
        answer = wire.infer(server, model, wire.tensor(ROW), parameters={"priority": priority})
        answers.append((priority, answer.status, answer))

    def are_there(count):
        in_queue = server.total("symphony_queued_requests", model=model)
        waiting = server.total("symphony_requests_waiting")
        running = server.total(IN_FLIGHT) - waiting
        return in_queue == waiting == min(count - 1, queue_max) and running == 1

    threads = []
    for count, priority in enumerate(priorities, start=1):
        threads.append(threading.Thread(target=ask, args=(priority,)))
        threads[-1].start()
        eventually(lambda count=count: are_there(count), f"{count} requests are there")
    for thread in threads:
        thread.join()
    return answers


def test_high_ones_are_served_first(server):
    # The first runs; of those that wait the last comes first.
    answers = queued(server, "single", [2, 2, 2, 1], queue_max=9)
    assert [status for _, status, _ in answers] == [200] * 4
    order = [priority for priority, _, _ in answers]
    assert order.index(1) == 1, order


def test_a_high_one_takes_the_place_of_a_low_one_in_a_full_queue(server):
    # One runs, two wait, and there is no room for more.
    answers = queued(server, "narrow", [2, 2, 2, 1], queue_max=2)
    outcomes = sorted((priority, status) for priority, status, _ in answers)
    assert outcomes == [(1, 200), (2, 200), (2, 200), (2, 429)]
    (refused,) = [answer for _, status, answer in answers if status == 429]
    assert "narrow" in refused.error
    assert "high priority took the place" in refused.error
    assert int(refused.headers["Retry-After"]) >= 1
    evicted = total(server.scrape(), "symphony_dropped_total", model="narrow", reason="evicted")
    assert evicted == 1
