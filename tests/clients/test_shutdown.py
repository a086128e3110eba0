"""Stopping: what is queued finishes, nothing new comes in, and whoever insists is obeyed."""

import signal
import threading
import time

import pytest

import models
import wire
from symphony import IN_FLIGHT, SOON_S, eventually

ROW = [[1.0, 2.0, 3.0, 4.0]]


@pytest.fixture
def server(start, tmp_path):
    models.write_emulated(
        tmp_path / "models", "slow", alpha_ms=0, beta_ms=1_500, max_batch=1, slo_ms=30_000
    )
    return start(tmp_path / "models")


@pytest.fixture
def under_way(server):
    """Two requests: one runs and one is queued behind it; their answers when they are there."""
    answers = []
    work = [lambda: wire.infer(server, "slow", wire.tensor(ROW))] * 2
    thread = threading.Thread(target=lambda: answers.extend(wire.together(work)))
    thread.start()
    eventually(lambda: server.total(IN_FLIGHT) == 2, "two requests in flight")

    def finish():
        thread.join(SOON_S)
        assert not thread.is_alive()
        return answers

    return finish


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_stops(server, number):
    server.signal(number)
    assert server.process.wait(SOON_S) == 0


def test_what_is_queued_finishes_and_nothing_new_comes_in(server, under_way):
    server.signal(signal.SIGTERM)
    eventually(lambda: server.status("/v2/health/ready") == 503, "not ready")
    refused = wire.infer(server, "slow", wire.tensor(ROW))
    assert refused.status == 503, refused
    assert refused.error
    code, text = wire.refused(server, wire.message("slow", ROW))
    assert (code.name, bool(text)) == ("UNAVAILABLE", True)
    assert [answer.status for answer in under_way()] == [200, 200]
    assert server.process.wait(SOON_S) == 0


def test_a_second_signal_stops_at_once(start, tmp_path):
    models.write_emulated(
        tmp_path / "models", "slow", alpha_ms=0, beta_ms=20_000, max_batch=1, slo_ms=600_000
    )
    server = start(tmp_path / "models")
    thread = threading.Thread(target=ask_in_vain, args=(server,))
    thread.start()
    eventually(lambda: server.total(IN_FLIGHT) == 1, "a request in flight")
    server.signal(signal.SIGTERM)
    eventually(lambda: server.status("/v2/health/ready") == 503, "not ready")
    assert server.process.poll() is None
    # Sooner, it would count as the same signal.
    time.sleep(1.1)
    server.signal(signal.SIGTERM)
    # Had it waited for the request to end, this would be 0.
    assert server.process.wait(SOON_S) != 0
    thread.join(SOON_S)


def ask_in_vain(server):
    try:
        answer = wire.infer(server, "slow", wire.tensor(ROW))
    except OSError:
        return
    raise AssertionError(f"answered: {answer}")
