"""Two ways for the roles of a cluster to reach each other, of which each can be cut.

On loopback every role reaches the others through relays of its own. In namespaces every role has an
address of its own behind a virtual cable.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from symphony import SOON_S


def free_port(host):
    with socket.socket() as found:
        found.bind((host, 0))
        return found.getsockname()[1]


class Loopback:
    """All roles at 127.0.0.1. A cut relay passes nothing on, and its connections end when it is
    mended: their peers have long given them up."""

    NAME = "loopback"
    config = ""

    @staticmethod
    def missing():
        return None

    def __init__(self, _folder):
        command = [sys.executable, Path(__file__).with_name("relays.py")]
        self.relays = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.relays.kill()
        self.relays.wait()
        self.relays.stdin.close()
        self.relays.stdout.close()

    def _ask(self, **question):
        self.relays.stdin.write(json.dumps(question).encode() + b"\n")
        self.relays.stdin.flush()
        return json.loads(self.relays.stdout.readline())

    def host(self, _name):
        return "127.0.0.1"

    def within(self, _name, command):
        return command

    def to(self, name, address):
        """Where `name` reaches `address`."""
        return self._ask(name=name, to=address)

    def at(self, name, address):
        """Where others reach `address` of `name`."""
        return self.to(name, address)

    def cut(self, name):
        self._ask(name=name, cut=["out", "in"])

    def cut_half(self, name):
        """What the role says is lost, and it hears all."""
        self._ask(name=name, cut=["out"])

    def mend(self, name):
        self._ask(name=name, cut=[])

    def slow(self, name):
        """What is said on its links is held up now and then, for about a heartbeat."""
        self._ask(name=name, stall_s=0.1)


class Namespaces:
    """Each role in a network namespace, with a cable to one bridge. A cut cable is down: packets
    are lost, and nobody is told."""

    NAME = "namespaces"
    # Nobody else is on this network.
    config = "[cluster]\nplain_anywhere = true\n"
    BRIDGE = "symphony-test"
    NETWORK = "10.213.7"

    @staticmethod
    def missing():
        if os.geteuid() != 0 or shutil.which("ip") is None:
            return "network namespaces need root and the program `ip` (Debian's package iproute2)"
        trial = "symphony-trial"
        made = subprocess.run(["ip", "netns", "add", trial], capture_output=True, text=True)
        if made.returncode:
            return f"this system makes no network namespaces: {made.stderr.strip()}"
        cable = "link add symphony-t0 type veth peer name symphony-t1"
        made = subprocess.run(["ip", *cable.split()], capture_output=True, text=True)
        subprocess.run(["ip", "link", "del", "symphony-t0"], capture_output=True)
        subprocess.run(["ip", "netns", "del", trial], check=True, timeout=SOON_S)
        return f"this system makes no virtual cables: {made.stderr.strip()}" * bool(made.returncode)

    def __init__(self, _folder):
        self.numbers = {}

    def __enter__(self):
        self._remove()
        self._ip(f"link add {self.BRIDGE} type bridge")
        self._ip(f"addr add {self.NETWORK}.1/24 dev {self.BRIDGE}")
        self._ip(f"link set {self.BRIDGE} up")
        return self

    def __exit__(self, *_):
        self._remove()

    def _remove(self):
        """What this test made, and what one that was killed left behind."""
        listed = subprocess.run(["ip", "-json", "netns"], capture_output=True, text=True).stdout
        for namespace in json.loads(listed or "[]"):
            if namespace["name"].startswith(f"{self.BRIDGE}-"):
                self._ip(f"netns del {namespace['name']}")
        # The system removes the cables of a namespace some time after it.
        links = json.loads(subprocess.run(["ip", "-json", "link"], capture_output=True).stdout)
        for name in (link["ifname"] for link in links):
            if name.startswith("symt") or name == self.BRIDGE:
                subprocess.run(["ip", "link", "del", name], capture_output=True)

    @staticmethod
    def _ip(words):
        subprocess.run(["ip", *words.split()], check=True, timeout=SOON_S)

    def _number(self, name):
        """The last part of the role's address. Its namespace is made when it is first asked for."""
        if name not in self.numbers:
            number = self.numbers[name] = 2 + len(self.numbers)
            space, outer = self._space(name), f"symt{number}"
            self._ip(f"netns add {space}")
            self._ip(f"link add {outer} type veth peer name eth0 netns {space}")
            self._ip(f"link set {outer} master {self.BRIDGE} up")
            self._ip(f"-n {space} link set lo up")
            self._ip(f"-n {space} addr add {self.NETWORK}.{number}/24 dev eth0")
            self._ip(f"-n {space} link set eth0 up")
        return self.numbers[name]

    def _space(self, name):
        return f"{self.BRIDGE}-{name}"

    def host(self, name):
        return f"{self.NETWORK}.{self._number(name)}"

    def within(self, name, command):
        self._number(name)
        return ["ip", "netns", "exec", self._space(name), *command]

    def to(self, _name, address):
        return address

    def at(self, _name, address):
        return address

    def cut(self, name):
        self._ip(f"link set symt{self._number(name)} down")

    def mend(self, name):
        self._ip(f"link set symt{self._number(name)} up")

    def slow(self, name):
        """Packets take 20 ms or more to and from it, and one in a hundred is lost."""
        cable = f"symt{self._number(name)}"
        command = f"tc qdisc add dev {cable} root netem delay 20ms 10ms loss 1%"
        made = subprocess.run(command.split(), capture_output=True, text=True)
        if made.returncode:
            pytest.skip(f"this system's kernel does not delay packets (netem): {made.stderr}")
