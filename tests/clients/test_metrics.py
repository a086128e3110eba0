"""The metrics page: what it counts adds up to what was sent."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

import models
import wire
from symphony import IN_FLIGHT, USUAL, Server, eventually, total

ROW = [1.0, 2.0, 3.0, 4.0]
OUTCOMES = ("good", "late", "dropped", "cancelled", "failed", "refused")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    repository = tmp_path_factory.mktemp("models")
    models.write_emulated(repository, "echo", alpha_ms=0.1, beta_ms=2, max_batch=8)
    models.write_emulated(repository, "tight", alpha_ms=0, beta_ms=200, max_batch=1, slo_ms=300)
    with Server(repository, tmp_path_factory.mktemp("server"), config=USUAL) as server:
        yield server


class Growth:
    """How much each sample grew between two scrapes."""

    def __init__(self, server):
        self.server = server
        self.before = server.scrape()
        self.after = None

    def end(self):
        self.after = self.server.scrape()

    def __call__(self, name, **labels):
        return total(self.after, name, **labels) - total(self.before, name, **labels)


def test_counters_add_up_to_the_requests_sent(server):
    growth = Growth(server)
    sizes = [1 + index % 3 for index in range(60)]
    answers = wire.together(
        [lambda rows=rows: wire.infer(server, "echo", wire.tensor([ROW] * rows)) for rows in sizes]
    )
    assert {answer.status for answer in answers} == {200}
    growth.end()

    def echo(name, **labels):
        return growth(name, model="echo", version="1", **labels)

    assert echo("nv_inference_request_success") == 60
    assert echo("nv_inference_request_failure") == 0
    assert echo("nv_inference_count") == sum(sizes)
    batches = echo("nv_inference_exec_count")
    assert 0 < batches <= 60
    assert echo("symphony_requests_total", outcome="good") == 60
    assert sum(echo("symphony_requests_total", outcome=outcome) for outcome in OUTCOMES) == 60
    for part in ("request", "queue", "compute_input", "compute_infer", "compute_output"):
        assert echo(f"nv_inference_{part}_duration_us") >= 0, part
    # 2 ms a batch at the least.
    assert echo("nv_inference_compute_infer_duration_us") >= 2_000 * batches
    assert echo("nv_inference_request_duration_us") >= echo("nv_inference_queue_duration_us")


def test_histograms_hold_every_request(server):
    growth = Growth(server)
    answers = wire.together(
        [lambda: wire.infer(server, "echo", wire.tensor([ROW])) for _ in range(20)]
    )
    assert {answer.status for answer in answers} == {200}
    growth.end()
    for name in ("queue", "execution", "request", "slack"):
        assert growth(f"symphony_{name}_seconds_count", model="echo") == 20, name
        assert growth(f"symphony_{name}_seconds_sum", model="echo") > 0, name
        assert growth(f"symphony_{name}_seconds_bucket", model="echo", le="+Inf") == 20, name
    # Each request tells the size of its batch.
    assert growth("symphony_batch_rows_count", model="echo") == 20
    assert 20 <= growth("symphony_batch_rows_sum", model="echo") <= 20 * 8


def test_what_misses_its_objective_is_counted_once(server):
    growth = Growth(server)
    answers = wire.together(
        [lambda: wire.infer(server, "tight", wire.tensor([ROW])) for _ in range(8)]
    )
    statuses = [answer.status for answer in answers]
    eventually(lambda: server.total(IN_FLIGHT) == 0, "nothing in flight")
    growth.end()
    assert statuses.count(504) >= 5
    counted = {
        outcome: growth("symphony_requests_total", model="tight", outcome=outcome)
        for outcome in OUTCOMES
    }
    assert sum(counted.values()) == 8
    assert counted["good"] == statuses.count(200)
    assert counted["late"] + counted["dropped"] == statuses.count(504)
    assert growth("symphony_dropped_total", model="tight") == counted["dropped"]
    assert growth("nv_inference_request_failure", model="tight") == statuses.count(504)


def test_refused_requests_are_no_inferences(server):
    growth = Growth(server)
    for _ in range(5):
        assert wire.infer(server, "echo", wire.tensor([[1.0]])).status == 400
    growth.end()
    assert growth("symphony_refused_total") == 5
    assert growth("symphony_requests_total", model="echo", outcome="refused") == 5
    assert growth("symphony_requests_total", model="echo") == 5
    assert growth("nv_inference_count", model="echo") == 0
    assert growth("nv_inference_exec_count", model="echo") == 0


def test_accelerators_tell_how_busy_they_are(server):
    growth = Growth(server)
    for _ in range(5):
        assert wire.infer(server, "echo", wire.tensor([ROW])).status == 200

    def five_batches():
        growth.end()
        return growth("symphony_accelerator_batches_total") == 5

    # The scheduler hears of a batch's end a moment after the client.
    eventually(five_batches, "five batches")
    # Each takes 2.1 ms.
    assert growth("symphony_accelerator_busy_seconds_total") >= 0.010


def test_the_page_is_well_formed(server):
    text = server.metrics_page()
    lines = text.splitlines()
    kinds = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    helped = [line.split()[2] for line in lines if line.startswith("# HELP")]
    assert kinds == helped
    assert len(kinds) == len(set(kinds))
    assert len(list(text_string_to_metric_families(text))) == len(kinds)
