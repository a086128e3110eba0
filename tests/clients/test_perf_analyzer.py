"""perf_analyzer, the load generator that users of the protocol know, in its usual modes.

It checks outputs itself where it is given the expected ones; the server's counters tell whether
every request it sent was answered well.
"""

import json
import os
import re
import subprocess
import urllib.request

import numpy as np
import pytest

import models
from symphony import START_LIMIT_S

REQUESTS = 120

MODES = {
    "http": ["-i", "http"],
    "http-json": ["-i", "http", "--input-tensor-format", "json", "--output-tensor-format", "json"],
    "http-async": ["-i", "http", "--async", "--concurrency-range", "8"],
    "grpc": ["-i", "grpc"],
    "grpc-async": ["-i", "grpc", "--async", "--concurrency-range", "8"],
    "grpc-streaming": ["-i", "grpc", "--streaming", "--concurrency-range", "4"],
    "grpc-compressed": ["-i", "grpc", "--grpc-compression-algorithm", "gzip"],
}
BATCH_MODES = {
    "http": ["-i", "http"],
    "grpc": ["-i", "grpc"],
    "grpc-streaming": ["-i", "grpc", "--streaming"],
}


def perf_analyzer(server, *arguments):
    program = os.environ.get("SYMPHONY_TEST_PERF_ANALYZER")
    assert program, "SYMPHONY_TEST_PERF_ANALYZER is not set: run `cargo xtask test --only clients`"
    address = server.http if "http" in arguments else server.grpc
    return subprocess.run(
        [program, "-u", address, "--shared-memory", "none", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=START_LIMIT_S,
    )


@pytest.fixture(scope="module")
def input_data(shared_models, tmp_path_factory):
    """Writes requests of one row with the answers they must get, true or false."""
    rng = np.random.default_rng(3)
    folder = tmp_path_factory.mktemp("input")

    def file(name, error):
        data, answers = [], []
        for _ in range(5):
            arrays = {
                name: rng.integers(-1000, 1000, (1, 16), dtype=np.int32)
                for name in ("INPUT0", "INPUT1")
            }
            expected = models.reference(shared_models["simple"], **arrays)
            expected["OUTPUT1"] += error
            data.append({name: array[0].tolist() for name, array in arrays.items()})
            answers.append({name: array[0].tolist() for name, array in expected.items()})
        path = folder / f"{name}.json"
        path.write_text(json.dumps({"data": data, "validation_data": answers}))
        return path

    return {"right": file("right", 0), "wrong": file("wrong", 1)}


def requests_sent(report):
    (count,) = re.findall(r"Request count: (\d+)", report)
    return int(count)


def statistics(server, model):
    with urllib.request.urlopen(f"http://{server.http}/v2/models/{model}/stats") as response:
        (found,) = json.load(response)["model_stats"]
    outcomes = found["inference_stats"]
    return np.array(
        [outcomes["success"]["count"], outcomes["fail"]["count"], found["inference_count"]]
    )


@pytest.mark.parametrize("mode", MODES)
def test_outputs_are_as_expected(server, input_data, mode):
    arguments = ["-m", "simple", *MODES[mode], "--request-count", REQUESTS]
    arguments += ["--input-data", input_data["right"]]
    done = perf_analyzer(server, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert requests_sent(done.stdout) >= REQUESTS, done.stdout


@pytest.mark.parametrize("mode", BATCH_MODES)
def test_batches(server, mode):
    # It does not compare outputs when requests have several rows.
    before = statistics(server, "simple")
    arguments = ["-m", "simple", *BATCH_MODES[mode], "-b", "4", "--request-count", REQUESTS]
    done = perf_analyzer(server, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    good, failed, rows = statistics(server, "simple") - before
    assert good >= REQUESTS
    assert failed == 0
    assert rows == 4 * good


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_it_would_notice_wrong_outputs(server, input_data, protocol):
    """So that the other tests prove something."""
    arguments = ["-m", "simple", "-i", protocol, "--request-count", REQUESTS]
    done = perf_analyzer(server, *arguments, "--input-data", input_data["wrong"])
    assert done.returncode != 0, done.stdout


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_range_of_concurrencies(server, protocol, tmp_path):
    report = tmp_path / "report.csv"
    arguments = ["-m", "affine", "-i", protocol, "--concurrency-range", "1:5:2", "-f", report]
    # Any three windows will do: speed is not what is tested.
    arguments += ["--measurement-mode", "count_windows", "--measurement-request-count", 50]
    done = perf_analyzer(server, *arguments, "--stability-percentage", 999, "--max-trials", 3)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = report.read_text().splitlines()
    assert sorted(line.split(",")[0] for line in lines) == ["1", "3", "5", "Concurrency"]
    # The server's own view of where time went, from its statistics.
    for column in ("Server Queue", "Server Compute Infer"):
        assert column in lines[0]
