"""Starting the real server and looking at it from outside.

Knows the command line, the ports file, the metrics page and what /proc says about the process;
knows nothing of inference requests, which the clients under test send.
"""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil

# Loading profiles each model; shared machines are slow.
START_LIMIT_S = 300
# For what has to happen soon, on a machine that may be busy with something else.
SOON_S = 60

# One accelerator, so that what is queued behind what is known. Nothing is said of the mode: it is
# the one that batches no more than the load asks for, so that a test is not answered near the end of
# its generous objective.
USUAL = """
[backend]
accelerators = 1
threads = 1
"""

# A line of the metrics page, its names as they stand there; libraries rename counters.
SAMPLE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

IN_FLIGHT = "symphony_requests_in_flight"


def binary():
    path = os.environ.get("SYMPHONY_TEST_BINARY")
    assert path, "SYMPHONY_TEST_BINARY is not set: run `cargo xtask test --only clients`"
    assert Path(path).is_file(), f"{path} does not exist: run `cargo build --bin symphony`"
    return path


def eventually(probe, what, limit_s=SOON_S):
    """Calls `probe` until it gives something true, and returns that."""
    end = time.monotonic() + limit_s
    while True:
        found = probe()
        if found:
            return found
        assert time.monotonic() < end, f"not within {limit_s} s: {what}"
        time.sleep(0.02)


def run(*arguments, folder, limit_s=START_LIMIT_S):
    """Runs the program to its end."""
    return subprocess.run(
        [binary(), *map(str, arguments), "--cache-dir", str(folder / "cache")],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=limit_s,
    )


class Server:
    """One running server with its own working folder."""

    def __init__(self, models, folder, *, config="", arguments=()):
        folder.mkdir(parents=True, exist_ok=True)
        self.models = Path(models)
        self.log = folder / "log.txt"
        ports = folder / "ports.json"
        ports.unlink(missing_ok=True)
        (folder / "symphony.toml").write_text(config)
        command = [binary(), "serve", "--models", self.models, "--config", folder / "symphony.toml"]
        for listener in ("http", "grpc", "metrics"):
            command += [f"--{listener}-port", "0"]
        command += ["--ports-file", ports, "--cache-dir", folder / "cache", *arguments]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                list(map(str, command)),
                cwd=folder,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait_for(ports)
        except BaseException:
            self.kill()
            raise

    def _wait_for(self, ports):
        def written():
            code = self.process.poll()
            assert code is None, f"the server ended with {code}:\n{self.log.read_text()}"
            return ports.is_file()

        eventually(written, "the server's ports file", START_LIMIT_S)
        found = json.loads(ports.read_text())
        self.http, self.grpc, self.metrics = (
            f"127.0.0.1:{found[listener]}" for listener in ("http", "grpc", "metrics")
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self):
        """Asks it to stop and returns its exit code."""
        self.signal(signal.SIGTERM)
        return self.process.wait(SOON_S)

    def status(self, path):
        """The status code of a GET over a connection of its own."""
        try:
            with urllib.request.urlopen(f"http://{self.http}{path}", timeout=SOON_S) as response:
                return response.status
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def raw(self, data):
        """Sends bytes as they are to the HTTP port, says no more, and returns what comes back."""
        host, port = self.http.split(":")
        with socket.create_connection((host, int(port)), timeout=SOON_S) as connection:
            connection.sendall(data)
            # It may have closed the connection already.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def scrape(self):
        """Every sample of the metrics page: (name, sorted labels) to value."""
        found = {}
        for line in self.metrics_page().splitlines():
            if line and not line.startswith("#"):
                name, labels, value = SAMPLE.fullmatch(line).groups()
                key = (name, tuple(sorted(LABEL.findall(labels or ""))))
                assert key not in found, f"twice on the page: {line}"
                found[key] = float(value)
        return found

    def metrics_page(self):
        with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=SOON_S) as response:
            return response.read().decode()

    def total(self, name, **labels):
        """The sum of the samples with this name and at least these labels."""
        return total(self.scrape(), name, **labels)

    def open_files(self):
        return psutil.Process(self.process.pid).num_fds()


def total(samples, name, **labels):
    wanted = set(labels.items())
    return sum(
        value for (found, at), value in samples.items() if found == name and wanted <= set(at)
    )
