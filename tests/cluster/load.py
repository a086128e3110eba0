"""Clients that ask a cluster all the time, and what became of each request.

Each thread has a client of its own and one request at a time. What this process is held up itself is
measured beside it, so that it is not taken for the cluster's.
"""

import collections
import itertools
import random
import threading
import time

import numpy as np
import tritonclient.grpc
import tritonclient.http
from geventhttpclient.response import HTTPConnectionClosed
from tritonclient.utils import InferenceServerException

# A request is given up so long after it was sent: it hangs.
HANGS_S = 5.0
# From an answer to the next request of a thread, on average.
PAUSE_S = 0.03
# A thread whose frontend does not listen tries again after this.
REFUSED_S = 0.05

# What became of a request. A late one was answered like a good one, but long after its deadline.
GOOD, LATE, DROPPED, FAILED = "good", "late", "dropped", "failed"
UNREACHABLE, HUNG = "unreachable", "hung"
# A request has its answer so long after its deadline.
LATE_S = 0.1
# How long requests may take, as their clients say.
LIMITS_S = [0.2, 0.3, 0.5]
# What a library says of a connection that broke.
BROKEN = (OSError, EOFError, HTTPConnectionClosed)

# The codes of a request that was dropped, in words of HTTP and gRPC.
DROPS = {"429", "503", "504", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "UNAVAILABLE"}


class Request:
    """One request: when it was sent, how long it may take, what became of it and when."""

    __slots__ = ("frontend", "sent", "limit_s", "ended", "outcome", "text")

    def __init__(self, frontend, sent, limit_s):
        self.frontend, self.sent, self.limit_s = frontend, sent, limit_s
        self.ended, self.outcome, self.text = None, None, ""

    @property
    def late_s(self):
        """How long after its deadline the client had its answer."""
        return self.ended - self.sent - self.limit_s

    def __repr__(self):
        if self.ended is None:
            return f"under way at {self.frontend}"
        took = self.ended - self.sent
        return (
            f"{self.outcome} after {took * 1e3:.0f} ms (limit {self.limit_s * 1e3:.0f} ms) "
            f"at {self.frontend}: {self.text[:300]}"
        )


class Probe(threading.Thread):
    """How long threads of this process wait for their turn: a sleep that takes longer than asked."""

    TICK_S = 0.005

    def __init__(self):
        super().__init__(daemon=True)
        self.delays = collections.deque()
        self.over = threading.Event()

    def run(self):
        while not self.over.is_set():
            before = time.monotonic()
            time.sleep(self.TICK_S)
            after = time.monotonic()
            if after - before > 4 * self.TICK_S:
                self.delays.append((before, after))

    def held_up_s(self, begin, end):
        """For how long this process did not get on between two times."""
        overlaps = (min(end, to) - max(begin, since) for since, to in list(self.delays))
        return sum(overlap for overlap in overlaps if overlap > 0)


class Asker:
    """What the clients of both protocols have in common."""

    def __init__(self, frontend, seed):
        self.frontend, self.rng = frontend, random.Random(seed)
        self.numbers = itertools.count(self.rng.randrange(1 << 20))

    def draw(self):
        """A model, an input that no other request has, what comes out, and a limit."""
        number = np.float32(next(self.numbers) % (1 << 21))
        limit_s = self.rng.choice(LIMITS_S)
        if self.rng.random() < 0.7:
            x = np.full((1, 4), number, np.float32)
            return "echo", x, x, limit_s
        x = np.array([[number, 1, 2]], np.float32)
        return "affine", x, np.array([[number + 4.5, 2 * number - 4.5]], np.float32), limit_s

    def ask(self, note):
        """Notes a request, and sends it."""
        model, x, expected, limit_s = self.draw()
        request = Request(self.frontend.name, time.monotonic(), limit_s)
        note(request)
        try:
            y = self.infer(model, x, limit_s)
            assert np.array_equal(y, expected), f"{model} {x} gave {y}, not {expected}"
            request.outcome = GOOD
        except InferenceServerException as error:
            request.outcome, request.text = self.meaning(error), str(error)
        except BROKEN as error:
            request.outcome, request.text = UNREACHABLE, repr(error)
        request.ended = time.monotonic()
        if request.outcome == GOOD and request.late_s > LATE_S:
            request.outcome = LATE
        if request.ended - request.sent >= HANGS_S:
            request.outcome = HUNG
        return request

    def meaning(self, error):
        code = (error.status() or "").removeprefix("StatusCode.")
        return DROPPED if code in DROPS else FAILED


class HttpAsker(Asker):
    def __init__(self, frontend, seed):
        super().__init__(frontend, seed)
        self.client = None

    def infer(self, model, x, limit_s):
        if self.client is None:
            self.client = tritonclient.http.InferenceServerClient(
                self.frontend.http, connection_timeout=HANGS_S, network_timeout=HANGS_S
            )
        tensor = tritonclient.http.InferInput("x", list(x.shape), "FP32")
        tensor.set_data_from_numpy(x)
        try:
            answer = self.client.infer(model, [tensor], timeout=int(limit_s * 1e6))
        except BROKEN:
            # What is left of the connection would belong to the next request.
            self.close()
            raise
        return answer.as_numpy("y")

    def close(self):
        if self.client is not None:
            self.client.close()
            self.client = None


class GrpcAsker(Asker):
    # One that was refused is not kept waiting for long once the frontend listens again.
    OPTIONS = [
        ("grpc.initial_reconnect_backoff_ms", 50),
        ("grpc.min_reconnect_backoff_ms", 50),
        ("grpc.max_reconnect_backoff_ms", 100),
        ("grpc.use_local_subchannel_pool", 1),
    ]

    def __init__(self, frontend, seed):
        super().__init__(frontend, seed)
        self.client = tritonclient.grpc.InferenceServerClient(
            frontend.grpc, channel_args=self.OPTIONS
        )

    def infer(self, model, x, limit_s):
        tensor = tritonclient.grpc.InferInput("x", list(x.shape), "FP32")
        tensor.set_data_from_numpy(x)
        answer = self.client.infer(
            model, [tensor], timeout=int(limit_s * 1e6), client_timeout=HANGS_S
        )
        return answer.as_numpy("y")

    def meaning(self, error):
        # The library's own words for a connection that broke or was not to be had.
        broken = ("failed to connect", "Socket closed", "reset by peer", "Connection refused", "GOAWAY")
        if any(words in str(error) for words in broken):
            return UNREACHABLE
        return super().meaning(error)

    def close(self):
        self.client.close()


class Load:
    """Threads that ask every frontend in both protocols until the end of a `with`."""

    def __init__(self, frontends, seed, threads_each=2):
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.requests = []
        self.broken = []
        self.probe = Probe()
        kinds = [(frontend, kind) for frontend in frontends for kind in (HttpAsker, GrpcAsker)]
        self.threads = [
            threading.Thread(target=self._run, args=(kind, frontend, f"{seed} {number}"))
            for number, (frontend, kind) in enumerate(kinds * threads_each)
        ]

    def _run(self, kind, frontend, seed):
        asker = kind(frontend, seed)
        try:
            while not self.over.is_set():
                request = asker.ask(self._note)
                is_up = request.outcome != UNREACHABLE
                time.sleep(asker.rng.expovariate(1 / PAUSE_S) if is_up else REFUSED_S)
        except BaseException as error:
            self.broken.append(error)
            raise
        finally:
            asker.close()

    def _note(self, request):
        with self.lock:
            self.requests.append(request)

    def __enter__(self):
        self.probe.start()
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join(2 * HANGS_S)
        self.probe.over.set()
        assert not any(thread.is_alive() for thread in self.threads), "a request never ended"
        assert not self.broken, self.broken

    def between(self, begin, end, frontends):
        """The requests sent to these frontends in a span of time. Some may be under way."""
        with self.lock:
            newest = list(reversed(self.requests))
        # They are nearly in the order in which they were sent.
        recent = itertools.takewhile(lambda request: request.sent >= begin - 1, newest)
        names = {frontend.name for frontend in frontends}
        return [r for r in recent if begin <= r.sent < end and r.frontend in names]
