"""The kserve client, REST and gRPC."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import models
from symphony import SOON_S

CALLS = Path(__file__).with_name("kserve_calls.py")
NOT_FINITE = [[float("nan"), float("inf"), float("-inf"), 0.5]]


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(7)
    return {
        name: rng.integers(-1000, 1000, (3, 16), dtype=np.int32) for name in ("INPUT0", "INPUT1")
    }


@pytest.fixture(scope="module")
def answers(server, arrays):
    asked = {
        "http": server.http,
        "grpc": server.grpc,
        "model": "simple",
        "inputs": {name: array.tolist() for name, array in arrays.items()},
        "floats": NOT_FINITE,
    }
    done = subprocess.run(
        [sys.executable, CALLS],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=2 * SOON_S,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("form", ["binary", "values"])
@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_infer(answers, arrays, shared_models, protocol, form):
    answer = answers[protocol][form]
    assert (answer["id"], answer["model"]) == ("request 7", "simple")
    expected = models.reference(shared_models["simple"], **arrays)
    assert set(answer["outputs"]) == set(expected)
    for name, values in answer["outputs"].items():
        np.testing.assert_array_equal(np.array(values), expected[name])


@pytest.mark.parametrize(
    ("protocol", "form"),
    [("rest", "binary floats"), ("grpc", "binary floats"), ("grpc", "values of floats")],
)
def test_floats_that_are_not_finite(answers, protocol, form):
    np.testing.assert_array_equal(answers[protocol][form]["outputs"]["y"], NOT_FINITE)


def test_floats_that_are_not_finite_in_its_json(answers):
    """Its JSON writer makes each of them null, so that nobody can tell which it was."""
    assert "400" in answers["rest"]["values of floats"]
    assert "element 0 is null" in answers["rest"]["values of floats"]
    assert "as binary data" in answers["rest"]["values of floats"]


def test_version_1(answers, arrays, shared_models):
    answer = answers["version 1"]
    assert answer["live"] is True
    assert answer["model ready"] is True
    expected = models.reference(shared_models["simple"], **arrays)
    rows = answer["rows"]["predictions"]
    assert len(rows) == len(arrays["INPUT0"])
    for name, values in expected.items():
        np.testing.assert_array_equal([row[name] for row in rows], values)
        np.testing.assert_array_equal(answer["columns"]["outputs"][name], values)
    assert "400" in answer["refused"]
    assert "instances is empty" in answer["refused"]


@pytest.mark.parametrize("question", ["live", "ready", "model ready"])
@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_health(answers, protocol, question):
    # It reads what the health routes answer, not only their status.
    assert answers[protocol][question] is True
