# SPDX-License-Identifier: Apache-2.0
"""How does `fleet serve` come up, who trusts it, and how does it go down?"""

from __future__ import annotations

import resource
import signal
import socket
import ssl
import stat
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from agent.model import canonical, wire
from fleet.collector import service
from fleet.config import DataDir
from tests.fleet.documents import manifest, part, section
from tests.fleet.running import Running, command, running, start
from tests.fleet.sender import Sender


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A `fleet` command to its end."""
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=60, check=False)


def address(collector: Running) -> tuple[str, int]:
    """Where it listens."""
    host, port = collector.url.split("://")[1].rsplit(":", 1)
    return host, int(port)


def eventually(claim: Callable[[], bool]) -> bool:
    """Whether it becomes true within half a minute."""
    until = time.monotonic() + 30
    while not claim():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def test_openssl_trusts_the_server_by_the_ca_alone(collector: Running) -> None:
    """A TLS client we did not write must accept chain, name and purpose."""
    # Given a collector / When openssl connects with its CA, checking the name
    host, port = address(collector)
    found = subprocess.run(
        ["openssl", "s_client", "-connect", f"{host}:{port}", "-CAfile", str(collector.ca),
         "-verify_return_error", "-verify_ip", host, "-purpose", "sslserver"],
        input="", capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    # Then it verifies, with TLS 1.3 and elliptic curves
    assert found.returncode == 0, found.stderr
    assert "Verify return code: 0 (ok)" in found.stdout
    assert "TLSv1.3" in found.stdout


@pytest.mark.parametrize(("version", "spoken"), [("-tls1_1", False), ("-tls1_2", True), ("-tls1_3", True)])
def test_old_protocols_are_not_spoken(collector: Running, version: str, spoken: bool) -> None:
    """TLS 1.0 and 1.1 were retired by RFC 8996."""
    host, port = address(collector)
    found = subprocess.run(
        ["openssl", "s_client", "-connect", f"{host}:{port}", version, "-cipher", "ALL:@SECLEVEL=0"],
        input="", capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert ("BEGIN CERTIFICATE" in found.stdout) == spoken


def test_everything_it_keeps_is_for_its_owner_alone(collector: Running) -> None:
    """Keys, tokens' hashes and what hosts say are nobody else's, whatever the umask."""
    for path in [collector.data.root, *collector.data.root.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_it_keeps_its_identity_over_restarts(data: DataDir) -> None:
    """A pin that changed would lock every agent out; `--init` makes what is missing and nothing else."""
    with running(data) as first, first.client() as client:
        sender = first.enrolled(client)
    with running(data) as second, second.client() as client:
        assert second.pin == first.pin
        assert Sender(client, sender.key).put_state(manifest(sender.host_id, 1, {})).status_code in (200, 204)


def test_a_directory_that_was_not_initialised_is_told(tmp_path: Path) -> None:
    """A mistyped directory must not become a second, empty fleet."""
    found = run("serve", "--data", str(tmp_path / "none"))
    assert (found.returncode, found.stdout) == (1, "")
    assert "fleet serve --init" in found.stderr
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "example.org:0"])
def test_plain_http_beyond_this_machine_is_refused(tmp_path: Path, listen: str) -> None:
    """Tokens would cross the network in the clear."""
    found = run("serve", "--init", "--plain-http", "--listen", listen, "--data", str(tmp_path / "none"))
    assert found.returncode == 2
    assert "--plain-http" in found.stderr
    assert not (tmp_path / "none").exists()


def test_plain_http_serves_on_loopback(data: DataDir) -> None:
    """Behind a proxy of the same machine that ends TLS."""
    with running(data, "--plain-http") as collector, collector.client() as client:
        assert collector.url.startswith("http://127.0.0.1:")
        sender = collector.enrolled(client)
        assert sender.put_state(manifest(sender.host_id, 1, {"host": section()})).status_code == 200


def test_an_address_that_is_taken_is_told(collector: Running, tmp_path: Path) -> None:
    """With what to do, and not with a trace."""
    host, port = address(collector)
    found = run("serve", "--init", "--data", str(tmp_path / "other"), "--listen", f"{host}:{port}")
    assert found.returncode == 1
    assert "--listen" in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize("listen", ["8443", "localhost", "1.2.3.4:99999", "::1:8443"])
def test_what_is_no_address_is_a_usage_error(tmp_path: Path, listen: str) -> None:
    """With an example of one that is."""
    found = run("serve", "--init", "--data", str(tmp_path / "none"), "--listen", listen)
    assert found.returncode == 2
    assert "HOST:PORT" in found.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_after_the_last_answer(data: DataDir, number: signal.Signals) -> None:
    """An upgrade must cost no host its post: what was begun is finished, and the exit code says so."""
    collector = start(data)
    with collector.client() as client:
        sender = collector.enrolled(client)
        body = part(1)
        path = f"/v1/parts/{canonical.digest(body)}"
        # Given a host in the middle of an upload
        context = ssl.create_default_context(cafile=str(collector.ca))
        host, port = address(collector)
        with context.wrap_socket(
            socket.create_connection((host, port), timeout=30), server_hostname=host
        ) as line:
            headers = {
                **sender.headers("PUT", path, body),
                "content-length": str(len(body)),
                "host": "collector",
            }
            head = [f"PUT {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
            line.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + body[:10])
            time.sleep(0.2)
            # When the collector is told to end / Then the upload is still answered
            collector.process.send_signal(number)
            time.sleep(0.2)
            line.sendall(body[10:])
            assert line.recv(4096).startswith(b"HTTP/1.1 204 ")
    _, log = collector.process.communicate(timeout=60)
    assert collector.process.returncode == 0, log
    assert '"event": "stopped"' in log
    assert "Traceback" not in log


def test_readiness_follows_what_can_be_written(data: DataDir) -> None:
    """A load balancer sends posts elsewhere when the disk is full; liveness is another question."""
    with running(data) as collector, collector.client() as client:
        sender = collector.enrolled(client)
        assert client.get("/readyz").status_code == 200
        # Given a collector that may not write any file further (as on a full disk)
        before = resource.prlimit(collector.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        # When it is asked, once what it believed is over / Then it is alive and not ready
        assert eventually(lambda: client.get("/readyz").status_code == 503)
        assert client.get("/readyz").json()["type"] == "urn:cryptofleet:problem:unavailable"
        assert client.get("/healthz").status_code == 200
        # And a post is told to come again, with nothing taken
        answer = sender.put_state(manifest(sender.host_id, 1, {"host": section()}))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
        # And when there is room again, the same post is taken
        resource.prlimit(collector.process.pid, resource.RLIMIT_FSIZE, before)
        assert eventually(lambda: client.get("/readyz").status_code == 200)
        assert sender.put_state(manifest(sender.host_id, 1, {"host": section()})).status_code == 200


def test_a_sender_that_never_finishes_is_let_go(data: DataDir) -> None:
    """Neither a half request head nor a half body holds a connection for ever."""
    prelude = "from fleet.collector import bodies, server; server._HEAD_S = bodies._PAUSE_S = 0.5"
    with running(data, "--plain-http", prelude=prelude) as collector, collector.client() as client:
        sender = collector.enrolled(client)
        path = f"/v1/hosts/{sender.host_id}/state"
        body = sender.state(manifest(sender.host_id, 1, {}))
        headers = {**sender.headers("PUT", path, body), "content-length": str(len(body)), "host": "collector"}
        head = "\r\n".join([f"PUT {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())])
        # Given one that says nothing, one that says half a head, and one that sends half a body
        for sent, answer in (
            (b"", b""),
            (b"PUT /v1", b""),
            (head.encode() + b"\r\n\r\n" + body[:9], b"HTTP/1.1 408 "),
        ):
            with socket.create_connection(address(collector), timeout=30) as line:
                line.sendall(sent)
                # When nothing more comes / Then the connection ends, with an answer if a request was there
                found = b""
                while piece := line.recv(4096):
                    found += piece
            assert found.startswith(answer)
            assert bool(found) == bool(answer)


def test_slow_strangers_keep_no_host_out(data: DataDir) -> None:
    """Whoever can reach the port could otherwise take every place there is with a few bytes each."""
    fields = f"host: a\r\ncontent-type: {wire.MEDIA_JSON}\r\ncontent-length: 9"
    head = f"POST /v1/inventories HTTP/1.1\r\n{fields}\r\n\r\n"
    with running(data, "--plain-http") as collector, collector.client() as client, ExitStack() as held:
        sender = collector.enrolled(client)
        # Given as many unsigned posts that do not go on as are let in
        for _ in range(service._STRANGERS_MAX):
            line = held.enter_context(socket.create_connection(address(collector), timeout=10))
            line.sendall(head.encode() + b"{")
        # When one more comes / Then it is sent away with when to come again
        assert eventually(lambda: client.post("/v1/enroll", json={}).status_code == 503)
        assert client.post("/v1/enroll", json={}).headers["retry-after"]
        # And a host of ours is served
        assert sender.put_state(manifest(sender.host_id, 1, {"host": section()})).status_code == 200


def test_many_connections_do_not_stop_it(collector: Running) -> None:
    """Idle connections cost memory and nothing else."""
    lines = [socket.create_connection(address(collector), timeout=10) for _ in range(200)]
    try:
        with collector.client() as client:
            assert client.get("/healthz").status_code == 200
    finally:
        for line in lines:
            line.close()


def test_the_ready_line_comes_when_it_accepts(data: DataDir) -> None:
    """Who waits for the line may connect at once."""
    collector = start(data)
    with collector.client() as client:
        assert client.get("/readyz").status_code == 200
    code, log = collector.stop()
    assert code == 0, log
