"""`symphony infer` and `symphony models`, against a server that runs."""

import json
import re
import socket
import subprocess

import numpy as np
import pytest

import models
from symphony import SOON_S, binary


@pytest.fixture
def ask(server, tmp_path):
    """Runs a command against the shared server, in a folder of the test's own."""

    def ask(*arguments, url=f"http://{server.http}"):
        command = [binary(), *map(str, arguments), "--url", url]
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=SOON_S
        )

    return ask


def printed(done):
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_outputs_of_files_are_saved(ask, shared_models, tmp_path, rng):
    given = {
        "INPUT0": rng.integers(-9, 9, (3, 16), dtype=np.int32),
        # In the order of columns, and of big-endian numbers.
        "INPUT1": np.asfortranarray(rng.integers(-9, 9, (3, 16)).astype(">i4")),
    }
    for name, array in given.items():
        np.save(tmp_path / f"{name}.npy", array)
    inputs = [part for name in given for part in ("--input", f"{name}={name}.npy")]
    printed(ask("infer", "simple", *inputs, "--output", "all", "--output", "OUTPUT1=one.json"))
    plain = {name: np.ascontiguousarray(array, np.int32) for name, array in given.items()}
    expected = models.reference(shared_models["simple"], **plain)
    for name, array in expected.items():
        np.testing.assert_array_equal(np.load(tmp_path / "all" / f"{name}.npy"), array)
    assert json.loads((tmp_path / "one.json").read_text()) == expected["OUTPUT1"].tolist()


@pytest.mark.parametrize(
    "given", ["x=[[1,2,3]]", "x=[1,2,3]", "x=rows.json"], ids=["rows", "one row", "file"]
)
def test_outputs_of_json_are_printed(ask, tmp_path, given):
    (tmp_path / "rows.json").write_text("[[1.0, 2, 3]]")
    text = printed(ask("infer", "affine", "--input", given))
    head, line = text.splitlines()
    assert re.fullmatch(r"affine version 1 in [\d.]+ ms", head), text
    assert line == "  y FP32 [1, 2]: [[9.0, -6.25]]"


def test_without_inputs_they_are_random(ask):
    assert "y FP32 [1, 2]: [[" in printed(ask("infer", "affine"))
    assert "y FP32 [4, 2]: [[" in printed(ask("infer", "affine", "--size", "batch=4"))
    assert "y FP32 [2, 2]: [[" in printed(ask("infer", "affine", "--input", "x=@random[2,3]"))


def test_many_requests_are_summed_up(ask):
    text = printed(ask("infer", "affine", "--repeat", 50, "--concurrency", 5))
    count, latency, outcomes = text.splitlines()
    assert re.fullmatch(r"50 requests, 5 at a time, in [\d.]+ s: [\d.]+ answered a second", count)
    assert re.fullmatch(r"latency p50 [\d.]+ ms, p99 [\d.]+ ms, max [\d.]+ ms", latency)
    assert outcomes.startswith("answered 50, dropped for their deadline 0, refused for lack of ")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["nope"], 'unknown model "nope"; served models: "affine", "echo", "simple"'),
        (["affine", "--model-version", "7"], 'version "7"'),
        (["affine", "--input", "x=none.npy"], "none.npy"),
        (["affine", "--input", "x=[[1,2]]"], "the model takes [batch, 3]"),
        (["affine", "--input", "x=double.npy"], 'convert it with .astype("float32")'),
        (["affine", "--input", "z=@random"], 'no input "z"; its inputs are "x"'),
        (["affine", "--size", "width=3"], 'no open dimension "width"'),
        (["affine", "--size", "batch=5000"], "5000 rows"),
        (["affine", "--output", "z=z.npy"], 'no output "z"; its outputs are "y"'),
        (["affine", "--repeat", "0"], "--repeat 0"),
        (["simple", "--input", "INPUT0=@random"], '"INPUT1"'),
    ],
)
def test_what_is_wrong_is_told(ask, tmp_path, arguments, part):
    np.save(tmp_path / "double.npy", np.zeros((1, 3)))
    done = ask("infer", *arguments)
    assert done.returncode == 1, done.stdout
    assert part in done.stderr


def test_without_a_server_it_says_how_to_start_one(ask):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        for command in (["infer", "affine"], ["models"]):
            done = ask(*command, url=url)
            assert done.returncode == 1
            assert f"no server answers at {url}" in done.stderr
            assert "symphony serve --models DIR" in done.stderr


def test_models_are_listed(ask):
    text = printed(ask("models"))
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    of = {row[0]: row for row in rows}
    assert of["echo"][1:6] == ["1", "READY", "emulated", "60000 ms", "8"]
    assert float(of["echo"][6]) < float(of["echo"][7])
    listed = json.loads(printed(ask("models", "--json")))
    assert [model["name"] for model in listed] == ["affine", "echo", "simple"]


@pytest.mark.parametrize("command", ["infer", "models", "serve"])
def test_help_has_an_example(command):
    done = subprocess.run(
        [binary(), command, "--help"], capture_output=True, text=True, timeout=SOON_S
    )
    assert f"\n  symphony {command} " in printed(done)
