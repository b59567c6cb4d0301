# SPDX-License-Identifier: Apache-2.0
"""No secret of a host reaches anything that the agent writes: output, words, its own directory, others."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.state import StateDirectory
from tests.agent import given, openssl
from tests.agent.cli.commands import Done, run
from tests.agent.fake_host import FakeHost

PASSWORD = b"correct-horse-battery-staple-7f3a"
# So short a piece of a key is found, and no document of ours has it by accident.
PIECE = 16


@dataclass
class Planted:
    """A host full of secrets, and the pieces by which each is known again in any wrapping of ours."""

    web: FakeHost
    pieces: set[bytes] = field(default_factory=set)

    def secret(self, secret: bytes) -> bytes:
        """Remember bytes that must not be seen: as they are, in hex, in base64 at any alignment, escaped."""
        forms = [secret, secret.hex().encode(), secret.hex(":").encode()]
        forms += [base64.b64encode(b"\0" * shift + secret)[4:] for shift in range(3)]
        forms += [secret.decode("latin-1").encode("unicode_escape"), repr(secret).encode()]
        for form in forms:
            self.pieces.update(form[at : at + PIECE] for at in range(max(1, len(form) - PIECE)))
        return secret

    def seen_in(self, data: bytes) -> list[bytes]:
        """The pieces that are in these bytes, line ends and JSON's escapes apart."""
        found = []
        for text in (data, re.sub(rb"\s", b"", data), data.replace(rb"\n", b"").replace(b"\n", b"")):
            windows = {text[at : at + PIECE] for at in range(len(text) - PIECE + 1)}
            found += sorted(windows & self.pieces)
        return found


def private_parts(pem: bytes) -> list[bytes]:
    """What is secret in a private key by openssl's own reading of it: its numbers, not the public ones."""
    text = openssl.run("pkey", "-text", "-noout", given=pem).decode()
    found = re.findall(
        r"^(priv|privateExponent|prime1|prime2|coefficient):((?:\n? +[0-9a-f:]+)+)", text, re.MULTILINE
    )
    return [bytes.fromhex(re.sub(r"[\s:]", "", digits)).lstrip(b"\0") for _, digits in found]


def body(pem: bytes) -> bytes:
    """What stands between a PEM's marks."""
    return b"".join(line for line in pem.splitlines() if b"-----" not in line and b":" not in line)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    """Keys of every kind and form, passwords wherever people leave them, and what was cut off half-way."""
    folder = tmp_path_factory.mktemp("secrets")
    planted = Planted(FakeHost(folder / "web"))
    web = planted.web
    key = folder / "key.pem"

    def made(*arguments: str) -> bytes:
        openssl.run("genpkey", *arguments, "-out", key)
        pem = key.read_bytes()
        for part in private_parts(pem):
            planted.secret(part)
        return pem

    ec = made("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
    rsa = made("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")
    ed25519 = made("-algorithm", "ED25519")
    key.write_bytes(rsa)
    der = openssl.run("pkey", "-in", key, "-outform", "DER")
    traditional = openssl.run("pkey", "-in", key, "-traditional")
    encrypted = openssl.run("pkey", "-in", key, "-aes256", "-passout", f"pass:{PASSWORD.decode()}")
    certificate = openssl.run("req", "-x509", "-new", "-key", key, "-subj", "/CN=web", "-days", "30")
    crt = folder / "made.crt"
    crt.write_bytes(certificate)
    pkcs12 = openssl.run(
        "pkcs12", "-export", "-inkey", key, "-in", crt, "-passout", f"pass:{PASSWORD.decode()}"
    )
    planted.secret(PASSWORD)
    planted.secret(base64.b64decode(body(encrypted))[200:-8])
    planted.secret(pkcs12[64:-64])

    # Keys where certificates are looked for, under names that promise one
    web.file("/etc/ssl/private/site.key", ec, 0o600)
    web.file("/etc/ssl/site.pem", certificate + rsa)
    web.file("/etc/ssl/reversed.pem", rsa + certificate)
    web.file("/etc/ssl/traditional.crt", traditional)
    web.file("/etc/ssl/encrypted.pem", encrypted)
    web.file("/etc/ssl/ed25519.cer", ed25519)
    web.file("/etc/ssl/der.crt", der)
    web.file("/etc/ssl/der.der", der + b"\0" * 3)
    web.file("/etc/ssl/site.p12", pkcs12)
    # One that says it is a certificate, whole, half, and with somebody's words in it
    for name, page in {
        "labelled": b"-----BEGIN CERTIFICATE-----\n" + body(rsa) + b"\n-----END CERTIFICATE-----\n",
        "half": rsa[: len(rsa) // 2],
        "cut": rsa.replace(b"-----END", b"-----BEGIN CERTIFICATE-----\n-----END"),
        "inside": b"-----BEGIN CERTIFICATE-----\n" + rsa + b"-----END CERTIFICATE-----\n",
        "around": b"password=" + PASSWORD + b"\n" + certificate + b"\n# " + PASSWORD + b"\n",
        "words": b"-----BEGIN CERTIFICATE-----\n" + PASSWORD * 5 + b"\n-----END CERTIFICATE-----\n",
        "headers": traditional.replace(
            b"-----\n", b"-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: " + PASSWORD + b"\n\n", 1
        ),
        "oneline": b'{"key": "' + rsa.replace(b"\n", rb"\n") + b'"}',
        "mixed": certificate.replace(b"\n", b"\n" + PASSWORD + b"\n", 2),
    }.items():
        web.file(f"/etc/ssl/odd/{name}.pem", page)
    if shutil.which("ssh-keygen"):
        ssh = folder / "id"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", ssh], check=True)
        planted.secret(base64.b64decode(body(ssh.read_bytes()))[-120:-30])
        web.file("/home/alice/.ssh/id_ed25519", ssh.read_bytes(), 0o600)
        web.file("/etc/ssh/ssh_host_ed25519_key", ssh.read_bytes(), 0o600)
    # What people and services leave lying about
    web.file("/etc/app/app.conf", b"[db]\npassword = " + PASSWORD + b"\nkey = " + body(ec) + b"\n")
    web.file("/etc/shadow", b"root:" + PASSWORD + b":1::::::\n", 0o600)
    web.file("/root/.bash_history", b"mysql -p" + PASSWORD + b"\n" * 200)
    web.file(
        "/var/lib/app/debug.log", b"GET /\n" * 300 + rsa + b"POST /\n" * 300 + b"token " + PASSWORD + b"\n"
    )
    web.file("/etc/ld.so.conf", b"include /etc/ld.so.conf.d/*\n" + PASSWORD + b"\n")
    web.file("/etc/crypto-policies/config", b"# " + PASSWORD + b"\n")
    # And what the kernel shows of a process
    web.process(10, fds=["/etc/ssl/private/site.key"])
    web.file("/proc/10/environ", b"DB_PASSWORD=" + PASSWORD + b"\0KEY=" + rsa + b"\0")
    web.file("/proc/10/cmdline", b"nginx\0-p\0" + PASSWORD + b"\0")
    return planted


# Looks at the directory of the first word as if it were this machine, and fails where the second word says.
DRIVER = """
import sys
from agent import cli, discover, errors, host, scanners
from agent.readers import pem, x509
init = host.Host.__init__
host.Host.__init__ = lambda self, root="/", parser=None: init(self, sys.argv[1], parser)
what = sys.argv[2]

def fail(quoted):
    if what.startswith("bug"):
        raise ValueError(quoted)
    if what.startswith("memory"):
        raise MemoryError(quoted)
    raise errors.UnreadableError("/etc/ssl", "nobody knows why")

if what.endswith("parser"):
    x509.parse_certificate = fail
    from agent.scanners import certificates
    certificates.parse_certificate = fail
elif what.endswith("pem"):
    pem.blocks = lambda whole, labels: fail(whole)
elif what.endswith("read"):
    read = host.Host.read
    def spoilt(self, path, *args, **more):
        page = read(self, path, *args, **more)
        return fail(page) if "app" in path or "conf" in path or path.endswith("maps") else page
    host.Host.read = spoilt
elif what != "fine":
    assert False, what
sys.exit(cli.main(sys.argv[3:]))
"""
PLACES = ("parser", "pem", "read")
WAYS = [
    "fine",
    *(f"{kind} in the {place}" for kind in ("bug", "error") for place in PLACES),
    "memory in the pem",
]
COMMANDS = {
    "snapshot": ("snapshot",),
    "the truth": ("snapshot", "--no-redact", "--format", "json-stream"),
    "summary": ("snapshot", "--format", "summary"),
    "a file": ("snapshot", "--output", "OUT/snapshot.json"),
    "run to stdout and a file": ("run", "--once", "--sink", "stdout", "--sink", "file"),
    "run to a collector that is not there": ("run", "--once"),
    "the rest of it": ("post",),
}


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    """All directories that the agent may write to."""
    found = {name: tmp_path / name for name in ("out", "state", "tmp")}
    for name in ("out", "tmp"):
        found[name].mkdir()
    with StateDirectory(str(found["state"])) as state:
        # Nobody listens there, so that the spool keeps the document.
        given.enrolled(state, "https://127.0.0.1:1", b"")
    return found


def files(place: Path) -> Iterator[Path]:
    """Every file below it but the one of the agent's own secret, which the host has nothing to do with."""
    return (path for path in place.rglob("*") if path.is_file() and path.name != "host.key")


def act(planted: Planted, places: dict[str, Path], way: str, words: tuple[str, ...]) -> Done:
    """One command over the planted host."""
    return run(
        *(word.replace("OUT", str(places["out"])) for word in words),
        agent=(sys.executable, "-c", DRIVER, planted.web.root, way),
        env={
            "TMPDIR": str(places["tmp"]),
            "CRYPTOFLEET_STATE": str(places["state"]),
            "CRYPTOFLEET_AGENT_SINK_FILE_PATH": str(places["out"] / "run.json"),
        },
        cwd=places["tmp"],
    )


def tree(root: Path) -> dict[str, tuple[int, int]]:
    """Names, sizes and times of change of all that is below."""
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in root.rglob("*")}


def test_what_is_planted_is_found_in_what_it_was_planted_in(planted: Planted) -> None:
    """A search that finds nothing would be green."""
    pages = [path for path in files(planted.web.root) if planted.seen_in(path.read_bytes())]

    assert len(pages) >= 20
    for wrapped in (
        PASSWORD,
        repr(PASSWORD).encode(),
        PASSWORD.hex().encode(),
        base64.b64encode(b"12" + PASSWORD),
    ):
        assert planted.seen_in(b"so: " + wrapped)
    key = (planted.web.root / "etc/ssl/private/site.key").read_bytes()
    assert planted.seen_in(json.dumps(key.decode()).encode())
    assert not planted.seen_in(b"nothing of it " * 10)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_no_secret_is_in_anything_that_a_command_writes(
    planted: Planted, places: dict[str, Path], way: str
) -> None:
    """Standard output and error, files, the agent's own directory, temporary files; also where it fails."""
    before = tree(planted.web.root)

    for name, words in COMMANDS.items():
        done = act(planted, places, way, words)
        assert b"Traceback" not in done.stderr, (name, done.stderr.decode())
        assert planted.seen_in(done.stdout) == [], name
        assert planted.seen_in(done.stderr) == [], name
        if done.stdout and words[0] == "snapshot":
            # Of the host in which they were planted, and of no other one.
            assert planted.web.host.hostname().encode() in done.stdout
        for place in places.values():
            for path in files(place):
                assert planted.seen_in(path.read_bytes()) == [], (name, path)
        assert os.listdir(places["tmp"]) == [], name

    # And something was written, in each place, so that there was something to look at
    assert len(list(files(places["out"]))) == 2
    assert {"spool", "memory"} <= {path.name for path in files(places["state"])}
    assert tree(planted.web.root) == before


def test_the_certificates_among_the_secrets_are_found(planted: Planted) -> None:
    """What is public is told, whatever stands beside it."""
    done = run("snapshot", "--root", planted.web.root)

    entries = [entry for part in json.loads(done.stdout)["inventory"]["parts"].values() for entry in part]
    paths = {entry["where"]["path"] for entry in entries if entry["asset"]["kind"] == "certificate"}
    assert paths == {"/etc/ssl/site.pem", "/etc/ssl/reversed.pem", "/etc/ssl/odd/around.pem"}
    states = json.loads(done.stdout)["inventory"]["manifest"]["sections"]
    assert states["certificates"]["skipped"] == {"malformed": 5}


def failing(kind: type[BaseException]) -> Callable[..., None]:
    """Something that fails with a secret in its mouth."""

    def fail(*_arguments: object) -> None:
        raise kind(PASSWORD.decode())

    return fail


@pytest.mark.parametrize("kind", [ValueError, OSError, MemoryError, RecursionError, KeyError, UnicodeError])
def test_a_scanners_bug_is_told_by_its_kind_and_place(
    planted: Planted, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its message may quote a file, and a file may be a secret."""
    from agent import document, redact
    from agent import run as conductor

    scanners = conductor.choose(None)
    for module in scanners.values():
        monkeypatch.setattr(module, "scan", failing(kind))
    draft = document.compose(
        planted.web.host, conductor.run_scanners(planted.web.host, scanners), redact.Truth()
    )

    assert {state.status for state in draft.sections.values()} == {"failed"}
    assert PASSWORD.decode() not in repr(draft)


def test_a_token_is_in_nothing_that_enrolment_writes(tmp_path: Path) -> None:
    """It opens the fleet to whoever reads it."""
    token = "cft_" + PASSWORD.decode() * 2
    file = tmp_path / "token"
    file.write_text(token + "\n")
    file.chmod(0o600)
    state = tmp_path / "state"
    words = ("enroll", "--url", "https://127.0.0.1:1", "--pin", "sha256:" + "0" * 64, "--state-dir", state)

    piped = ("sh", "-c", f'"$@" < {file}', "sh")
    for done in (
        run(*words, "--token-file", file),
        run(*words, "--token-file", "-", prefix=piped),
        run(*words, env={"CRYPTOFLEET_TOKEN": token}),
    ):
        assert done.returncode == 1, done.stderr
        assert PASSWORD not in done.stdout + done.stderr
    for path in files(state):
        assert PASSWORD not in path.read_bytes()
