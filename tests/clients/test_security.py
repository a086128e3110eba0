"""Real clients of a server with TLS and keys: tritonclient, kserve, curl, and the program's own."""

import http.client
import json
import os
import shutil
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

import models
from certificates import Authority
from symphony import SOON_S, USUAL, binary, eventually

INFER = "key-of-somebody-who-asks-0123456789"
ADMIN = "key-of-somebody-who-loads-0123456789"
WRONG = "key-of-somebody-who-has-left-0123456789"
ROW = np.array([[1.0, 2.0, 3.0]], np.float32)
Y = [9.0, -6.25]


def section(name, key, scopes):
    return f'[[key]]\nname = "{name}"\nkey = "{key}"\nscopes = {json.dumps(scopes)}\n'


KEYS = section("asks", INFER, ["infer"]) + section("loads", ADMIN, ["admin"])


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    path = tmp_path_factory.mktemp("repository")
    models.write(path, "affine", models.affine(), max_batch=4)
    return path


@pytest.fixture
def secured(start, repository, tmp_path):
    """A server with TLS, keys, and a port for calls that change it."""
    authority = Authority(tmp_path, "ours")
    certificate, key = authority.issue("server")
    keys = tmp_path / "keys.toml"
    keys.write_text(KEYS)

    def secured(more=""):
        guards = (
            f'[server]\ntls_certificate = "{certificate}"\ntls_key = "{key}"\n'
            f'keys_file = "{keys}"\n{more}\n'
        )
        server = start(repository, guards + USUAL)
        server.authority, server.keys = authority, keys
        server.certificate, server.key = certificate, key
        return server

    return secured


def bearer(key):
    return {"Authorization": f"Bearer {key}"} if key else {}


def http_client(server, authority=None):
    file = (authority or server.authority).file
    return tritonclient.http.InferenceServerClient(
        server.http,
        ssl=True,
        ssl_context_factory=lambda: ssl.create_default_context(cafile=file),
        network_timeout=SOON_S,
    )


def grpc_client(server, authority=None, address=None):
    file = (authority or server.authority).file
    return tritonclient.grpc.InferenceServerClient(
        address or server.grpc, ssl=True, root_certificates=str(file)
    )


def infer_over_http(client, key):
    tensor = tritonclient.http.InferInput("x", ROW.shape, "FP32")
    tensor.set_data_from_numpy(ROW)
    return client.infer("affine", [tensor], headers=bearer(key)).as_numpy("y").ravel().tolist()


def infer_over_grpc(client, key):
    tensor = tritonclient.grpc.InferInput("x", ROW.shape, "FP32")
    tensor.set_data_from_numpy(ROW)
    headers = {name.lower(): value for name, value in bearer(key).items()}
    return client.infer("affine", [tensor], headers=headers).as_numpy("y").ravel().tolist()


def refusal(call):
    with pytest.raises(InferenceServerException) as refused:
        call()
    return f"{refused.value.status()} {refused.value.message()}"


def test_triton_clients_show_their_key_under_tls(secured):
    server = secured()
    with http_client(server) as client:
        assert client.is_server_live() and client.is_server_ready()
        assert client.is_model_ready("affine")
        assert infer_over_http(client, INFER) == Y
        assert "asks for a key" in refusal(lambda: infer_over_http(client, None))
        assert "401" in refusal(lambda: infer_over_http(client, WRONG))
        assert "403" in refusal(lambda: infer_over_http(client, ADMIN))
        assert client.get_model_metadata("affine", headers=bearer(ADMIN))["name"] == "affine"
        assert "401" in refusal(lambda: client.get_model_metadata("affine"))
        # The server listens on loopback, so such calls are taken here.
        client.load_model("affine", headers=bearer(ADMIN))
        assert "403" in refusal(lambda: client.load_model("affine", headers=bearer(INFER)))
    with grpc_client(server) as client:
        assert client.is_server_live() and client.is_server_ready()
        assert infer_over_grpc(client, INFER) == Y
        assert "UNAUTHENTICATED" in refusal(lambda: infer_over_grpc(client, None))
        assert "UNAUTHENTICATED" in refusal(lambda: infer_over_grpc(client, WRONG))
        assert "PERMISSION_DENIED" in refusal(lambda: infer_over_grpc(client, ADMIN))
        admin = {"authorization": f"Bearer {ADMIN}"}
        client.load_model("affine", headers=admin)
        assert client.get_model_config("affine", headers=admin, as_json=True)["config"]
    assert server.total("symphony_refused_total", reason="unauthenticated") >= 5
    log = server.log.read_text()
    assert log.count("a call was refused") == 1, "once a minute for each peer"
    assert INFER not in log and ADMIN not in log and WRONG not in log


def test_calls_that_change_the_server_have_a_port_of_their_own(secured):
    server = secured("admin_port = 0\n")
    ports = json.loads((server.log.parent / "ports.json").read_text())
    at_admin = f"127.0.0.1:{ports['admin']}"
    admin = {"authorization": f"Bearer {ADMIN}"}
    with grpc_client(server) as client:
        text = refusal(lambda: client.load_model("affine", headers=admin))
        assert f"at port {ports['admin']} only" in text
    with grpc_client(server, address=at_admin) as client:
        client.load_model("affine", headers=admin)
        assert "UNAUTHENTICATED" in refusal(lambda: client.load_model("affine"))
    connection = over_tls(at_admin, server.authority)
    for key, status in [(ADMIN, 200), (INFER, 403), (None, 401)]:
        connection.request("POST", "/v2/scheduler/mode", '{"mode": "eager"}', bearer(key))
        response = connection.getresponse()
        assert (response.status, bool(response.read())) == (status, True), key
    assert "admin calls 127.0.0.1" in server.log.read_text()


def over_tls(address, authority):
    host, port = address.split(":")
    context = ssl.create_default_context(cafile=authority.file)
    return http.client.HTTPSConnection(host, int(port), context=context, timeout=SOON_S)


def test_curl_and_kserve_show_their_key_under_tls(secured, tmp_path):
    server = secured()
    curl = shutil.which("curl")
    if curl:
        found = subprocess.run(
            [curl, "-sS", "--cacert", server.authority.file, "-H", f"Authorization: Bearer {INFER}",
             "-w", " %{http_code} %{http_version}", f"https://{server.http}/v2/models/affine/infer",
             "-d", '{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]}]}'],
            capture_output=True, text=True, timeout=SOON_S,
        )
        assert found.returncode == 0, found.stderr
        answer, status, version = found.stdout.rsplit(" ", 2)
        assert (json.loads(answer)["outputs"][0]["data"], status, version) == (Y, "200", "1.1")
    asked = {"http": server.http, "grpc": server.grpc, "ca": str(server.authority.file), "key": INFER}
    calls = Path(__file__).with_name("kserve_secured.py")
    done = subprocess.run(
        [sys.executable, calls], input=json.dumps(asked), capture_output=True, text=True,
        timeout=2 * SOON_S,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"rest": Y, "grpc": Y, "without": 401}


def ask(*arguments, server, key=None, ca=None):
    """Runs one of the program's own commands against a server under TLS."""
    environment = {**os.environ, **({"SYMPHONY_KEY": key} if key else {})}
    command = [binary(), *arguments, "--url", f"https://{server.http}"]
    command += ["--ca", ca or server.authority.file]
    return subprocess.run(
        list(map(str, command)), env=environment, capture_output=True, text=True, timeout=SOON_S
    )


def test_the_programs_own_commands_show_a_key_under_tls(secured, tmp_path):
    server = secured()
    done = ask("infer", "affine", "--input", "x=[[1,2,3]]", server=server, key=INFER)
    assert "[[9.0, -6.25]]" in done.stdout, done.stderr
    done = ask("infer", "affine", "--repeat", "20", "--key", INFER, server=server)
    assert "answered 20" in done.stdout, done.stderr
    assert "affine" in ask("models", server=server, key=ADMIN).stdout
    strangers = Authority(tmp_path, "strangers").file
    for done, part in [
        (ask("models", server=server), "401 Unauthorized: this server asks for a key"),
        (ask("models", server=server, key=WRONG), "not, or no longer, known here"),
        (ask("infer", "affine", server=server, key=ADMIN), 'does not have the scope "infer"'),
        (ask("models", server=server, key=INFER, ca=strangers), "of a CA that is not trusted"),
        (ask("models", server=server, ca="/none.pem"), "/none.pem"),
    ]:
        assert done.returncode != 0
        assert part in done.stderr, done.stderr
        assert not any(key in done.stderr for key in (INFER, ADMIN, WRONG))


def test_a_renewal_under_load_loses_nothing(secured, tmp_path):
    server = secured()
    after = Authority(tmp_path, "after")
    ended, failures, counts = threading.Event(), [], {"http": 0, "grpc": 0}

    def load(name, connect, infer):
        try:
            with connect(server) as client:
                while not ended.is_set():
                    assert infer(client, INFER) == Y
                    counts[name] += 1
        except BaseException as error:
            failures.append(error)

    threads = [
        threading.Thread(target=load, args=arguments)
        for arguments in [
            ("http", http_client, infer_over_http), ("grpc", grpc_client, infer_over_grpc)
        ]
    ]
    for thread in threads:
        thread.start()
    eventually(lambda: min(counts.values()) > 20, "requests before the renewal")

    certificate, key = after.issue("renewed")
    os.replace(key, server.key)
    os.replace(certificate, server.certificate)

    eventually(lambda: trusts(server, after), "the new certificate")
    assert not trusts(server, server.authority)
    # A file of keys that cannot be used changes nothing, and one that can be takes effect.
    server.keys.write_text("[[key]]\nname = 1\n")
    eventually(lambda: "has a `name` that is no text" in server.log.read_text(), "the refusal")
    server.keys.write_text(section("asks", INFER, ["infer", "admin"]))
    before = dict(counts)
    eventually(lambda: all(counts[name] > before[name] + 20 for name in counts), "requests after")
    ended.set()
    for thread in threads:
        thread.join(SOON_S)
    assert not failures, failures
    assert server.process.poll() is None


def trusts(server, authority):
    """Whether a new connection takes the server's certificate for one of this authority."""
    connection = over_tls(server.http, authority)
    try:
        connection.connect()
    except ssl.SSLCertVerificationError:
        return False
    finally:
        connection.close()
    return True


def test_a_key_that_is_gone_is_refused_on_the_connection_that_used_it(secured):
    server = secured()
    connection = over_tls(server.http, server.authority)

    def status():
        connection.request("GET", "/v2", headers=bearer(INFER))
        response = connection.getresponse()
        response.read()
        return response.status

    assert status() == 200
    opened = connection.sock
    server.keys.write_text(section("loads", ADMIN, ["admin"]))
    eventually(lambda: status() == 401, "the refusal of a key that is gone")
    server.keys.unlink()
    eventually(lambda: "cannot read the keys" in server.log.read_text(), "the line about the file")
    assert status() == 401
    server.keys.write_text(KEYS)
    eventually(lambda: status() == 200, "the key that is back")
    assert connection.sock is opened


def test_certificates_that_are_expired_or_unknown_are_refused(secured, tmp_path):
    ours, strangers = Authority(tmp_path, "clients"), Authority(tmp_path, "strangers")
    server = secured(f'tls_client_ca = "{ours.file}"\n')

    def status(issued):
        host, port = server.http.split(":")
        context = ssl.create_default_context(cafile=server.authority.file)
        if issued:
            context.load_cert_chain(*issued)
        connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=SOON_S)
        try:
            connection.request("GET", "/v2/health/live")
            return connection.getresponse().status
        finally:
            connection.close()

    assert status(ours.issue("known")) == 200
    for issued, part in [
        (ours.issue("expired", days=-1), "expired"),
        (strangers.issue("stranger"), "unknown ca"),
        (None, "certificate required"),
    ]:
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)) as refused:
            status(issued)
        if isinstance(refused.value, ssl.SSLError):
            assert part in str(refused.value).lower().replace("_", " ")
    certificate, key = ours.issue("commands")
    arguments = ["models", "--cert", certificate, "--cert-key", key]
    assert "affine" in ask(*arguments, server=server, key=INFER).stdout
    eventually(lambda: server.total("symphony_refused_connections_total") == 3, "the count")
    assert server.log.read_text().count("a connection was refused: its certificate has expired") == 1
    credentials = grpc.ssl_channel_credentials(
        server.authority.file.read_bytes(),
        *(file.read_bytes() for file in reversed(ours.issue("known-too"))),
    )
    with grpc.secure_channel(server.grpc, credentials) as channel:
        grpc.channel_ready_future(channel).result(SOON_S)


@pytest.mark.parametrize(
    ("wrong", "part"),
    [
        ("tls_certificate = \"none.pem\"\ntls_key = \"none.key\"", "none.pem"),
        ("tls_certificate = \"none.pem\"", "give its key too, server.tls_key"),
        ("keys_file = \"none.toml\"", "cannot read the keys none.toml"),
    ],
)
def test_a_start_without_its_files_names_them(repository, tmp_path, wrong, part):
    config = tmp_path / "symphony.toml"
    config.write_text(f"[server]\nhttp_port = 0\ngrpc_port = 0\nmetrics_port = 0\n{wrong}\n{USUAL}")
    command = [binary(), "serve", "--models", repository, "--config", config]
    command += ["--cache-dir", tmp_path / "cache"]
    done = subprocess.run(
        list(map(str, command)), cwd=tmp_path, capture_output=True, text=True, timeout=SOON_S
    )
    assert done.returncode == 1
    assert part in done.stderr, done.stderr
