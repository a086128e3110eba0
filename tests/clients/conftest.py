"""The servers the tests share.

A server that is shared must not be changed by a test: tests that load, unload, overload or stop
start their own.
"""

import numpy as np
import pytest

import models
from symphony import USUAL, Server


@pytest.fixture(scope="session")
def shared_models(tmp_path_factory):
    """The repository of the shared server: model name to ONNX file."""
    repository = tmp_path_factory.mktemp("models")
    models.write_emulated(repository, "echo", alpha_ms=0.1, beta_ms=1.0, max_batch=8)
    return {
        "simple": models.write(repository, "simple", models.simple(), max_batch=8),
        "affine": models.write(repository, "affine", models.affine(), max_batch=8),
    }


@pytest.fixture(scope="session")
def server(shared_models, tmp_path_factory):
    """The server for every test that only sends requests."""
    repository = shared_models["simple"].parents[2]
    with Server(repository, tmp_path_factory.mktemp("server"), config=USUAL) as server:
        yield server


@pytest.fixture
def start(tmp_path):
    """Starts a server of the test's own; stops it when the test ends."""
    running = []

    def start(repository, config=USUAL, arguments=()):
        folder = tmp_path / f"server{len(running)}"
        running.append(Server(repository, folder, config=config, arguments=arguments))
        return running[-1]

    yield start
    for server in running:
        server.kill()


@pytest.fixture
def rng():
    return np.random.default_rng(20230807)
