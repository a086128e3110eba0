"""Log lines as JSON: one object a line, and every request under the name its client gave it."""

import json

import grpc
import pytest

import models
import wire
from symphony import USUAL, eventually

ROW = [[1.0, 2.0, 3.0, 4.0]]


@pytest.fixture
def server(start, tmp_path):
    models.write_emulated(tmp_path / "models", "echo", alpha_ms=0, beta_ms=1, max_batch=2)
    return start(tmp_path / "models", USUAL, ["--log-format", "json", "--log-level", "debug"])


def lines(server):
    """Every line of the log so far; what the server tells its user is not of it."""
    written = server.log.read_text().splitlines()
    return [
        json.loads(line, object_pairs_hook=no_name_twice) for line in written if line[:1] == "{"
    ]


def no_name_twice(pairs):
    assert len(pairs) == len(dict(pairs)), pairs
    return dict(pairs)


def test_every_request_has_a_line_that_names_it(server):
    assert wire.infer(server, "echo", wire.tensor(ROW), id="good one").status == 200
    assert wire.infer(server, "echo", wire.tensor(ROW)).status == 200
    assert wire.infer(server, "echo", wire.tensor([[1.0]]), id="bad shape").status == 400
    message = wire.message("echo", ROW, timeout=-1)
    message.id = "bad limit"
    assert wire.refused(server, message)[0] == grpc.StatusCode.INVALID_ARGUMENT

    def outcomes():
        events = [line["fields"] for line in lines(server)]
        found = {event["request"]: event["outcome"] for event in events if "request" in event}
        return found if len(found) == 4 else None

    found = eventually(outcomes, "a line of each request")
    named = {request: outcome for request, outcome in found.items() if request[0] != "#"}
    assert named == {"good one": "good", "bad shape": "refused", "bad limit": "refused"}
    assert sorted(found.values()) == ["good", "good", "refused", "refused"]


def test_a_line_says_when_how_severe_and_what(server):
    found = lines(server)
    assert found
    for line in found:
        assert {"timestamp", "level", "fields", "target"} == set(line), line
        assert line["level"] in {"ERROR", "WARN", "INFO", "DEBUG"}
        assert line["fields"]["message"]
