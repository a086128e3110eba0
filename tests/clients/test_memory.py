"""Clients that send huge bodies and stop in the middle: the server keeps to its budget of memory, and
those that behave are served beside them.
"""

import contextlib
import json
import socket
import struct
import threading

import psutil
import pytest

import models
import wire
from symphony import SOON_S, USUAL, eventually

MEBIBYTE = 1 << 20
BUDGET = 512 * MEBIBYTE
WHOLE = 60 * MEBIBYTE
PART = bytes(20 * MEBIBYTE)
CROWD = 100

CONFIG = f"""
[server]
request_bytes_max_mib = {BUDGET // MEBIBYTE}
body_timeout_s = 3600
{USUAL}
"""

HELD = "symphony_request_bytes"
REFUSED = "symphony_request_bytes_refused_total"

# Frames of HTTP/2.
DATA, HEADERS, RESET, SETTINGS, WINDOW_UPDATE = 0, 1, 3, 4, 8
FRAME_MAX = 16 * 1024
WINDOW = 65_535


@pytest.fixture
def server(start, tmp_path):
    repository = tmp_path / "models"
    models.write_emulated(repository, "echo", alpha_ms=0.1, beta_ms=1.0, max_batch=8)
    models.write_emulated(
        repository, "huge", alpha_ms=0, beta_ms=1, max_batch=1, datatype="UINT8", shape=[len(PART)]
    )
    return start(repository, CONFIG)


class Memory:
    """What the server's process has resident above what it has now."""

    def __init__(self, server):
        self.process = psutil.Process(server.process.pid)
        self.before = self.process.memory_info().rss
        # The highest so far counts from here.
        with open(f"/proc/{self.process.pid}/clear_refs", "w") as clear:
            clear.write("5")

    def grown_at_most(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            highest = next(line for line in status if line.startswith("VmHWM:"))
        return int(highest.split()[1]) * 1024 - self.before


def begin_http(server):
    """Sends a part of a body; the connection, which stays open."""
    host, port = server.http.split(":")
    connection = socket.create_connection((host, int(port)), timeout=SOON_S)
    head = f"POST /v2/models/huge/infer HTTP/1.1\r\nhost: test\r\ncontent-length: {WHOLE}\r\n\r\n"
    # What is refused is not taken to the end.
    with contextlib.suppress(OSError):
        connection.sendall(head.encode())
        connection.sendall(PART)
    return connection


def begin_grpc(server):
    """Sends a part of a message; the connection, which stays open."""
    host, port = server.grpc.split(":")
    connection = socket.create_connection((host, int(port)), timeout=SOON_S)
    with contextlib.suppress(OSError):
        HalfACall(connection, server.grpc).send(b"\0" + struct.pack(">I", WHOLE) + PART)
    return connection


class HalfACall:
    """As much of HTTP/2 as it takes to send a part of a message, which client libraries do not."""

    def __init__(self, connection, authority):
        self.connection = connection
        self.received = connection.makefile("rb")
        self.windows = {0: WINDOW, 1: WINDOW}
        self.is_answered = False
        headers = {
            ":method": "POST",
            ":scheme": "http",
            ":path": "/inference.GRPCInferenceService/ModelInfer",
            ":authority": authority,
            "content-type": "application/grpc",
            "te": "trailers",
        }
        # Each a literal without a place in the table, its texts not packed.
        literals = [
            b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
            for name, value in headers.items()
        ]
        end_headers = 4
        connection.sendall(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            + frame(SETTINGS, 0, 0, b"")
            + frame(HEADERS, end_headers, 1, b"".join(literals))
        )

    def send(self, data):
        """Sends data as the server makes room, until it answers."""
        sent = 0
        while sent < len(data) and not self.is_answered:
            room = min(*self.windows.values(), FRAME_MAX, len(data) - sent)
            if room == 0:
                self.receive()
                continue
            self.connection.sendall(frame(DATA, 0, 1, data[sent : sent + room]))
            sent += room
            for stream in self.windows:
                self.windows[stream] -= room

    def receive(self):
        head = self.received.read(9)
        if len(head) < 9:
            raise ConnectionResetError
        length, kind, flags, stream = int.from_bytes(head[:3]), head[3], head[4], head[5:]
        payload = self.received.read(length)
        if kind == WINDOW_UPDATE:
            self.windows[int.from_bytes(stream)] += int.from_bytes(payload)
        elif kind == SETTINGS and not flags:
            for at in range(0, length, 6):
                name, value = struct.unpack(">HI", payload[at : at + 6])
                if name == 4:
                    self.windows[1] += value - WINDOW
            self.connection.sendall(frame(SETTINGS, 1, 0, b""))
        elif kind in (HEADERS, RESET):
            self.is_answered = True


def frame(kind, flags, stream, payload):
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def crowd(server, begin):
    """Many that begin at the same time, each in a thread; their connections."""
    connections = []
    threads = [
        threading.Thread(target=lambda: connections.append(begin(server))) for _ in range(CROWD)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(connections) == CROWD
    return connections


@pytest.mark.parametrize("begin", [begin_http, begin_grpc])
def test_clients_that_stop_in_the_middle_leave_memory_and_others_alone(server, begin):
    memory = Memory(server)
    connections = crowd(server, begin)
    assert server.total(REFUSED) > 0
    assert server.total(HELD) <= BUDGET
    answer = wire.infer(server, "echo", wire.tensor([[1.0, 2.0, 3.0, 4.0]]))
    assert answer.status == 200, answer
    # Those that bring nothing make room while there is little; a large request is served then.
    eventually(lambda: server.total(HELD) <= 0.75 * BUDGET, "room")
    assert ask_huge(server).status == 200
    assert memory.grown_at_most() <= 1.1 * BUDGET
    for connection in connections:
        connection.close()
    eventually(lambda: server.total(HELD) == 0, "everything given back")


def ask_huge(server):
    description = {
        "name": "x",
        "shape": [1, len(PART)],
        "datatype": "UINT8",
        "parameters": {"binary_data_size": len(PART)},
    }
    head = json.dumps(
        {"inputs": [description], "parameters": {"binary_data_output": True}}
    ).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    return wire.call(server, "POST", "/v2/models/huge/infer", head + PART, headers)
