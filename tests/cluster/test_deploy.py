"""What containers are started with: the Dockerfile under a linter, the compose file under the rules
of its format, and every command line with the program itself.

No container engine runs here.
"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import compose_spec
import pytest
import yaml
from dockerfile_parse import DockerfileParser

from symphony import SOON_S, binary

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "docker/Dockerfile"
COMPOSE = ROOT / "deploy/compose.yaml"


def services():
    return yaml.safe_load(COMPOSE.read_text())["services"]


def role(name):
    return name.rpartition("-")[0]


def flag(command, name):
    found = [word.partition("=")[2] for word in command if word.startswith(f"--{name}=")]
    assert len(found) == 1, f"--{name} in {command}"
    return found[0]


def parses(command):
    """Whether the program takes the command line: it reads all of it before it shows its help."""
    command = [binary(), *command, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SOON_S)
    return done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def instructions():
    with DOCKERFILE.open("rb") as file:
        return DockerfileParser(fileobj=file).structure


def last(instructions, name):
    return [step["value"] for step in instructions if step["instruction"] == name][-1]


def test_the_linter_finds_nothing_in_the_dockerfile():
    hadolint = Path(sys.executable).with_name("hadolint")
    command = [hadolint, "--no-color", DOCKERFILE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SOON_S)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_image_is_made_of_what_the_repository_uses(instructions):
    stages = [step["value"] for step in instructions if step["instruction"] == "FROM"]
    assert len(stages) == 3
    rust = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["rust-version"]
    assert stages[0].startswith(f"rust:{rust}-")
    pinned = (ROOT / "tests/clients/requirements.txt").read_text()
    version = re.search(r"^onnxruntime==(\S+)$", pinned, re.MULTILINE)[1]
    assert f"onnxruntime=={version} " in DOCKERFILE.read_text()


def test_the_image_runs_as_nobody_and_says_whether_it_is_well(instructions):
    user, _ = last(instructions, "USER").split(":")
    assert int(user) >= 1000
    assert "/v2/health/ready" in last(instructions, "HEALTHCHECK")
    entry, arguments = last(instructions, "ENTRYPOINT"), last(instructions, "CMD")
    assert yaml.safe_load(entry) == ["symphony"]
    assert parses(yaml.safe_load(arguments)) == (True, "")


def test_what_the_build_copies_is_not_left_out():
    """The workspace's members, and what their sources include from elsewhere."""
    kept = (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().splitlines()
    kept = {line[1:] for line in kept if line.startswith("!")}
    members = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["members"]
    needed = {member.split("/")[0] for member in members} | {"Cargo.toml", "Cargo.lock"}
    for source in (ROOT / "crates").glob("*/src/**/*.rs"):
        for path in re.findall(r'include_(?:str|bytes)!\("((?:\.\./)+[^"]+)"\)', source.read_text()):
            included = (source.parent / path).resolve().relative_to(ROOT)
            needed.add(included.parts[0])
    assert needed <= kept


def compose(text):
    """The compose file by the rules of its format, with the defaults of its variables."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
    # The validator merges no anchors within anchors.
    found = compose_spec.PyCompose.from_json(json.dumps(yaml.safe_load(text)))
    found.validate()
    return found


def test_the_compose_file_keeps_to_its_format():
    assert sorted(compose(COMPOSE.read_text()).service_names()) == sorted(services())


@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        ("stop_grace_period: 40s", "stop_grace_period: soon", "duration `soon`"),
        ("restart: unless-stopped", "restart: often", "unknown variant `often`"),
        ("networks: [links]", "networks: [lnks]", "network `lnks`"),
        ("- lease:/run", "- leas:/run", "volume `leas`"),
        ("cap_drop", "cap_dorp", "cap_dorp"),
    ],
)
def test_a_wrong_compose_file_is_found(right, wrong, words):
    text = COMPOSE.read_text()
    assert right in text
    with pytest.raises(ValueError, match=words):
        compose(text.replace(right, wrong))


def test_the_cluster_is_whole():
    counts = {}
    for name in services():
        counts[role(name)] = counts.get(role(name), 0) + 1
    assert counts == {"frontend": 2, "scheduler": 2, "backend": 4}
    for name, service in services().items():
        assert service["command"][0] == role(name), name
        assert service["healthcheck"]["test"][0] == "CMD", name
        assert service["stop_grace_period"].endswith("s"), name
        assert service["restart"] == "unless-stopped", name


def test_the_roles_find_each_other():
    listening = {}
    for name, service in services().items():
        if role(name) == "scheduler":
            _, _, port = flag(service["command"], "listen").rpartition(":")
            listening[f"{name}:{port}"] = f":{int(port):04X} "
    for name, service in services().items():
        command = service["command"]
        if role(name) == "scheduler":
            continue
        assert flag(command, "scheduler").split(",") == sorted(listening), name
        if role(name) == "frontend":
            _, _, port = flag(command, "listen-data").rpartition(":")
            assert flag(command, "advertise-data") == f"{name}:{port}"
    # What the system calls the schedulers' port.
    for name, service in services().items():
        if role(name) in ("scheduler", "backend"):
            assert service["healthcheck"]["test"][3].startswith(*set(listening.values())), name


def test_schedulers_share_one_lease_and_backends_the_models():
    schedulers = [service for name, service in services().items() if role(name) == "scheduler"]
    leases = {flag(service["command"], "lease") for service in schedulers}
    assert len(leases) == 1
    folder = leases.pop().removeprefix("file:").rpartition("/")[0]
    for service in schedulers:
        assert f"lease:{folder}" in service["volumes"]
        assert flag(service["command"], "models") == "/models"
    for name, service in services().items():
        if role(name) != "frontend":
            assert any(volume.endswith(":/models:ro") for volume in service["volumes"]), name


@pytest.mark.parametrize("name", sorted(services()))
def test_the_program_takes_the_command_line(name):
    assert parses(services()[name]["command"]) == (True, "")


def test_a_wrong_command_line_is_found():
    for wrong in (["--no-such-flag"], ["--lease=nowhere:/x"], ["--listen=here"]):
        taken, why = parses([*services()["scheduler-1"]["command"], *wrong])
        assert not taken and wrong[0].partition("=")[0] in why, why
