"""A cluster whose processes are killed, stopped and cut off at random, under load.

A run prints its seed. The short form takes about a minute and has every kind of fault once;
`--minutes 20` goes on for so long, with two faults at once now and then.
"""

import random
import time

import pytest

import models
from chaos import SHARE, Chaos
from cluster import Cluster
from load import GOOD, LIMITS_S, Load
from symphony import IN_FLIGHT, eventually

FAULTS = [
    ("backend", "kill"),
    ("backend", "stop"),
    ("backend", "cut"),
    ("frontend", "kill"),
    ("frontend", "stop"),
    ("frontend", "cut"),
    ("active", "kill"),
    ("active", "stop"),
    ("active", "cut"),
    ("standby", "kill"),
]
# What a role says is lost, and it hears all.
HALVES = [("backend", "cut_half"), ("frontend", "cut_half")]
LONG = {"loopback": FAULTS + HALVES, "namespaces": FAULTS}
# On another network only its cuts are other ones.
SHORT = LONG | {"namespaces": [fault for fault in FAULTS if fault[1] == "cut"]}
# For how long links are slow.
SLOW_S = 8
# How many rounds have two faults.
DOUBLE = 0.25


@pytest.fixture
def cluster(net, tmp_path):
    repository = tmp_path / "models"
    models.write_emulated(repository, "echo", alpha_ms=0.5, beta_ms=3, max_batch=16, slo_ms=500)
    models.write(repository, "affine", models.affine(), max_batch=8, slo_ms=500)
    with Cluster(net, tmp_path, repository) as cluster:
        yield cluster


def say(what):
    print(what, flush=True)


def warm_up(chaos):
    """Nothing happens until the cluster gives good answers, which takes as long as it takes."""
    eventually(
        lambda: chaos.is_good(time.monotonic() - 2, chaos.cluster.frontends), "good answers"
    )
    chaos.measure()


def drawn(rng, minutes, net):
    """The faults of each round: each once, or for so long."""
    if not minutes:
        deck = SHORT[net.NAME].copy()
        rng.shuffle(deck)
        yield from ([fault] for fault in deck)
        return
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        first, second = rng.sample(LONG[net.NAME], 2)
        # Two of one kind may be the same process.
        both = rng.random() < DOUBLE and first[0] != second[0]
        yield [first, second] if both else [first]


def test_chaos(cluster, net, request):
    seed = request.config.getoption("--seed")
    seed = random.randrange(1 << 32) if seed is None else seed
    minutes = request.config.getoption("--minutes")
    say(f"\n{net.NAME}, --seed {seed}")
    rng = random.Random(seed)
    with Load(cluster.frontends, seed) as load:
        chaos = Chaos(cluster, load, rng, say)
        warm_up(chaos)
        for faults in drawn(rng, minutes, net):
            chaos.round(*(chaos.fault(*fault) for fault in faults))
    chaos.check_requests()
    chaos.check_memory()
    for frontend in cluster.frontends:
        assert frontend.is_running()
        eventually(lambda role=frontend: role.total(IN_FLIGHT) == 0, "nothing in flight")


def test_backends_that_are_restarted_one_after_the_other_lose_nothing(cluster, net):
    if net.NAME != "loopback":
        pytest.skip("the same on every network")
    with Load(cluster.frontends, seed=1) as load:
        chaos = Chaos(cluster, load, random.Random(1), say)
        warm_up(chaos)
        begin = time.monotonic()
        for backend in cluster.backends:
            assert backend.end() == 0
            backend.start()
            chaos.recovers("after a restart", time.monotonic(), cluster.frontends)
        end = time.monotonic()
    requests = load.between(begin, end, cluster.frontends)
    chaos.check_requests()
    bad = [request for request in requests if request.outcome != GOOD]
    say(f"{len(bad)} of {len(requests)} are not good")
    assert len(bad) < 0.01 * len(requests), bad[:10]


def test_slow_links_make_no_backend_register_again(cluster):
    with Load(cluster.frontends, seed=2) as load:
        chaos = Chaos(cluster, load, random.Random(2), say)
        warm_up(chaos)
        for role in cluster.roles:
            role.slow()
        begin = time.monotonic()
        time.sleep(SLOW_S)
        end = time.monotonic()
    requests = load.between(begin, end, cluster.frontends)
    chaos.check_requests()
    for limit_s in LIMITS_S:
        those = [request for request in requests if request.limit_s == limit_s]
        good = sum(request.outcome == GOOD for request in those)
        say(f"{good} of {len(those)} with {limit_s} s are good on slow links")
    assert [backend.times_linked() for backend in cluster.backends] == [1] * 4
    # A request crosses several links, so that plans count with more than one stall.
    assert good >= SHARE * len(those)
