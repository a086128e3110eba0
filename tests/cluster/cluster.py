"""A cluster of processes: frontends, schedulers with one lease, backends. Each can be killed, stopped,
cut off, and started again where it was.

Knows the command lines, the ports files and what the processes log of their lease; knows nothing of
requests.
"""

import json
import re
import signal
import subprocess

import psutil

from network import free_port
from symphony import SOON_S, START_LIMIT_S, Server, binary, eventually

ACTIVE = re.compile(r"^scheduler (\S+): active in epoch (\d+)$", re.MULTILINE)


class Role:
    """One process of the cluster, in one life after the other."""

    def __init__(self, cluster, name):
        self.cluster, self.name = cluster, name
        self.kind = name.rpartition("-")[0]
        self.folder = cluster.folder / name
        self.folder.mkdir()
        self.ports_file = self.folder / "ports.json"
        self.log = self.folder / "log.txt"
        self.host = cluster.net.host(name)
        self.flags = []
        self.process = None
        self.logged = 0

    def start(self):
        """Starts it; the log of each life is behind that of the one before."""
        self.ports_file.unlink(missing_ok=True)
        self.logged = self.log.stat().st_size if self.log.exists() else 0
        command = [binary(), self.kind, "--name", self.name, *self.flags]
        command += ["--config", self.cluster.config]
        if self.kind != "backend":
            command += ["--ports-file", self.ports_file]
        command = self.cluster.net.within(self.name, list(map(str, command)))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, stdout=log, stderr=subprocess.STDOUT
            )

    def ports(self, limit_s=START_LIMIT_S):
        def written():
            assert self.process.poll() is None, f"{self.name} ended:\n{self.text()}"
            return self.ports_file.is_file()

        eventually(written, f"the ports file of {self.name}", limit_s)
        return json.loads(self.ports_file.read_text())

    def text(self):
        """What its newest life logged."""
        with self.log.open("rb") as log:
            log.seek(self.logged)
            return log.read().decode(errors="replace")

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def epoch(self):
        """The epoch in which this life of a scheduler became active, if it did."""
        found = ACTIVE.findall(self.text()) if self.is_running() else []
        return int(found[-1][1]) if found else None

    def kill(self):
        if self.is_running():
            self.process.kill()
        if self.process:
            self.process.wait()

    def stop(self):
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def end(self):
        """Asks it to end and returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(SOON_S)

    def cut(self):
        self.cluster.net.cut(self.name)

    def cut_half(self):
        self.cluster.net.cut_half(self.name)

    def mend(self):
        self.cluster.net.mend(self.name)

    def slow(self):
        self.cluster.net.slow(self.name)

    def times_linked(self):
        """How often this life of a backend was taken into a pool."""
        return self.text().count(" in the pool of the scheduler")

    def total(self, name, **labels):
        """The sum of a frontend's samples, read as a server's are."""
        return Server.total(self, name, **labels)

    scrape, metrics_page = Server.scrape, Server.metrics_page

    def memory(self):
        """Bytes of memory that it has in use."""
        return psutil.Process(self.process.pid).memory_info().rss


class Cluster:
    """Two frontends, a scheduler and a standby, four backends of one accelerator each."""

    def __init__(self, net, folder, models):
        self.net, self.folder, self.models = net, folder, models
        self.config = folder / "symphony.toml"
        self.config.write_text(net.config)
        self.schedulers = [self._scheduler(number) for number in (1, 2)]
        self.backends = [self._backend(number) for number in range(1, 5)]
        self.frontends = [self._frontend(number) for number in (1, 2)]
        self.roles = self.schedulers + self.backends + self.frontends

    def _scheduler(self, number):
        role = Role(self, f"scheduler-{number}")
        # A later life has to listen where the others look for it.
        role.links = f"{role.host}:{free_port('127.0.0.1')}"
        lease = f"file:{self.folder / 'lease'}"
        role.flags = ["--models", self.models, "--listen", role.links, "--lease", lease]
        return role

    def _schedulers_for(self, name):
        return ",".join(self.net.to(name, scheduler.links) for scheduler in self.schedulers)

    def _backend(self, number):
        role = Role(self, f"backend-{number}")
        role.flags = ["--scheduler", self._schedulers_for(role.name)]
        role.flags += ["--accelerators", 1, "--threads", 1, "--cache-dir", role.folder / "cache"]
        return role

    def _frontend(self, number):
        role = Role(self, f"frontend-{number}")
        http, grpc, metrics, data = (free_port("127.0.0.1") for _ in range(4))
        role.http, role.grpc = f"{role.host}:{http}", f"{role.host}:{grpc}"
        role.metrics = f"{role.host}:{metrics}"
        listen = f"{role.host}:{data}"
        role.flags = ["--scheduler", self._schedulers_for(role.name), "--host", role.host]
        role.flags += ["--http-port", http, "--grpc-port", grpc, "--metrics-port", metrics]
        role.flags += ["--listen-data", listen, "--advertise-data", self.net.at(role.name, listen)]
        return role

    def __enter__(self):
        try:
            for role in self.roles:
                role.start()
            for frontend in self.frontends:
                frontend.ports()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_):
        self.kill()

    def kill(self):
        for role in self.roles:
            role.kill()

    def active(self):
        """The scheduler of the highest epoch, once there is one."""

        def found():
            active = [role for role in self.schedulers if role.epoch() is not None]
            return max(active, key=Role.epoch, default=None)

        return eventually(found, "an active scheduler")

    def standby(self):
        active = self.active()
        return next(role for role in self.schedulers if role is not active)
