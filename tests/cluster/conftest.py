"""Options of the tests with clusters, and the folder and network that each gets."""

import pytest

import network


def pytest_addoption(parser):
    parser.addoption("--minutes", type=float, default=0, help="run the chaos test for so long")
    parser.addoption("--seed", type=int, help="of the chaos test: repeat a run that failed")


@pytest.fixture(params=[network.Loopback, network.Namespaces], ids=lambda kind: kind.NAME)
def net(request, tmp_path):
    why_not = request.param.missing()
    if why_not:
        pytest.skip(why_not)
    with request.param(tmp_path) as net:
        yield net


def pytest_collection_modifyitems(config, items):
    minutes = config.getoption("--minutes")
    for item in items:
        if minutes:
            item.add_marker(pytest.mark.timeout(60 * minutes + 300))
