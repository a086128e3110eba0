"""Models that run in Python: scripts of both forms, models written for Triton, and scripts that
misbehave while others are served.
"""

import sys
import textwrap
import threading

import numpy as np
import psutil
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

from symphony import SOON_S, USUAL, eventually, run

PYTHON = ("--python", sys.executable)
TENSORS = """
[[input]]
name = "x"
datatype = "FP32"
shape = [2]
[[output]]
name = "y"
datatype = "FP32"
shape = [2]
"""
DOUBLE = """
def load(config):
    return lambda batch: batch["x"] * 2
"""


def write(repository, name, script, settings="", tensors=TENSORS):
    version = repository / name / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(textwrap.dedent(script))
    head = 'engine = "python"\nslo_ms = 5000\nmax_batch = 4\n'
    (repository / name / "model.toml").write_text(head + settings + tensors)


def ask(server, model, x, protocol="http", name="x", output="y"):
    module = {"http": tritonclient.http, "grpc": tritonclient.grpc}[protocol]
    client = module.InferenceServerClient(getattr(server, protocol))
    datatype = "BYTES" if x.dtype == object else "FP32"
    given = module.InferInput(name, list(x.shape), datatype)
    given.set_data_from_numpy(x)
    return client.infer(model, [given]).as_numpy(output)


def rows(*values):
    return np.array(values, np.float32).reshape(-1, 2)


@pytest.fixture
def repository(tmp_path):
    path = tmp_path / "models"
    write(path, "double", DOUBLE)
    return path


def workers(server):
    """The processes that run scripts, and those that watch them."""
    return psutil.Process(server.process.pid).children(recursive=True)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_scripts_of_both_forms_and_their_parameters(start, repository, protocol):
    write(
        repository,
        "scaled",
        """
        import numpy as np

        class Model:
            def load(self, config):
                self.factor = np.float32(config["factor"])

            def predict(self, batch):
                batch["x"] *= self.factor  # In place, where the rows lie.
                return [batch["x"]]
        """,
        settings="[parameters]\nfactor = 0.5\n",
    )
    server = start(repository, arguments=PYTHON)
    x = rows(1, 2, 3, 4)
    np.testing.assert_array_equal(ask(server, "double", x, protocol), x * 2)
    np.testing.assert_array_equal(ask(server, "scaled", x, protocol), x / 2)
    # More rows than a batch takes.
    x = rows(*range(20))
    np.testing.assert_array_equal(ask(server, "scaled", x, protocol), x / 2)


def test_texts_of_any_length(start, repository):
    write(
        repository,
        "upper",
        """
        import numpy as np

        def load(config):
            def run(batch):
                texts = batch["text"]
                upper = [[item.decode().upper().encode() for item in row] for row in texts]
                return {"upper": np.array(upper, dtype=object).reshape(texts.shape)}
            return run
        """,
        tensors="""
[[input]]
name = "text"
datatype = "BYTES"
shape = [-1]
[[output]]
name = "upper"
datatype = "BYTES"
shape = [-1]
""",
    )
    server = start(repository, arguments=PYTHON)
    for texts in ([["a", "größer"]], [["x"], [""]]):
        given = np.array([[item.encode() for item in row] for row in texts], dtype=object)
        found = ask(server, "upper", given, name="text", output="upper")
        assert [[item.decode() for item in row] for row in found] == [
            [item.upper() for item in row] for row in texts
        ]


def test_a_model_written_for_triton(start, repository):
    version = repository / "triton" / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(
        textwrap.dedent("""
            import json
            import numpy as np
            import triton_python_backend_utils as pb_utils

            class TritonPythonModel:
                def initialize(self, args):
                    config = json.loads(args["model_config"])
                    output = pb_utils.get_output_config_by_name(config, "y")
                    self.dtype = pb_utils.triton_string_to_numpy(output["data_type"])
                    self.shift = float(config["parameters"]["shift"]["string_value"])

                def execute(self, requests):
                    responses = []
                    for request in requests:
                        x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
                        if (x < 0).any():
                            error = pb_utils.TritonError("negative numbers are not taken")
                            responses.append(pb_utils.InferenceResponse(error=error))
                            continue
                        y = pb_utils.Tensor("y", (x + self.shift).astype(self.dtype))
                        responses.append(pb_utils.InferenceResponse([y]))
                    return responses
        """)
    )
    (repository / "triton" / "config.pbtxt").write_text("""
        backend: "python"
        max_batch_size: 4
        input { name: "x" data_type: TYPE_FP32 dims: [ 2 ] }
        output { name: "y" data_type: TYPE_FP32 dims: [ 2 ] }
        parameters { key: "shift" value { string_value: "10" } }
    """)
    server = start(repository, arguments=PYTHON)
    np.testing.assert_array_equal(ask(server, "triton", rows(1, 2)), rows(11, 12))
    with pytest.raises(InferenceServerException, match="negative numbers are not taken"):
        ask(server, "triton", rows(1, -2))
    np.testing.assert_array_equal(ask(server, "triton", rows(3, 4), "grpc"), rows(13, 14))


def test_a_script_that_fails_leaves_the_others_alone(start, repository):
    write(
        repository,
        "touchy",
        """
        import os
        import time

        def load(config):
            def run(batch):
                first = batch["x"][0, 0]
                if first == 100:
                    raise ValueError("one hundred is too much")
                if first == 200:
                    os._exit(3)
                if first == 300:
                    return {"z": batch["x"]}
                if first == 400:
                    time.sleep(1000)
                return batch["x"]
            return run
        """,
        settings="[python]\ntimeout_s = 1.0\n",
    )
    server = start(repository, arguments=PYTHON)
    for value, problem in [
        (100, "one hundred is too much"),
        (200, "exit"),
        (300, "y"),
        (400, "did not end within|has stopped answering"),
    ]:
        with pytest.raises(InferenceServerException, match=problem):
            ask(server, "touchy", rows(value, 0))
        np.testing.assert_array_equal(ask(server, "double", rows(1, 2)), rows(2, 4))

        def is_back():
            try:
                return (ask(server, "touchy", rows(1, 2)) == rows(1, 2)).all()
            except InferenceServerException:
                return False

        eventually(is_back, f"the model runs again after {value}")


def test_a_killed_process_is_started_again_and_every_request_ends(start, repository):
    server = start(repository, config=USUAL, arguments=PYTHON)
    ended, failed, stopping = [], [], threading.Event()

    def load():
        while not stopping.is_set():
            try:
                ended.append(ask(server, "double", rows(1, 2)))
            except InferenceServerException as error:
                failed.append(str(error))

    clients = [threading.Thread(target=load) for _ in range(4)]
    for client in clients:
        client.start()
    try:
        for _ in range(3):
            before = len(ended)
            eventually(lambda: len(ended) > before + 20, "requests are answered")
            victims = eventually(lambda: workers(server), "a Python process runs")
            victims[-1].kill()
            before = len(ended)
            eventually(lambda: len(ended) > before + 20, "requests are answered again")
    finally:
        stopping.set()
        for client in clients:
            client.join(SOON_S)
    assert not any(client.is_alive() for client in clients), "a request never ended"
    for error in failed:
        assert "Python process" in error or "not loaded" in error, error
    assert server.stop() == 0
    assert eventually(lambda: not any(map(psutil.pid_exists, [p.pid for p in victims])), "it ends")


def test_what_cannot_be_loaded_says_where(repository, tmp_path):
    write(repository, "broken", "import json\n\n\ndef load(config):\n    return json.loads('{')\n")
    write(repository, "empty", "x = 1\n")
    checked = run(
        "serve", "--models", repository, "--check", "--run", "-v", *PYTHON, folder=tmp_path
    )
    output = checked.stdout + checked.stderr
    assert checked.returncode != 0, output
    assert "JSONDecodeError" in output and "model.py" in output, output
    assert "load(config)" in output and "class `Model`" in output, output
    (repository / "broken" / "1" / "model.py").unlink()
    checked = run("serve", "--models", repository, "--check", *PYTHON, folder=tmp_path)
    assert "no file of a Python model" in checked.stdout + checked.stderr
