# SPDX-License-Identifier: Apache-2.0
"""Which differences are planted on the hosts of a lab, and how are they named when they are found?

A site certificate that was renewed, one that only one host has, a service that maps other crypto libraries,
and a library that was upgraded under a running process.
"""

from __future__ import annotations

import datetime as dt
import re
import subprocess
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from tests.lab.host import Host
from tests.lab.spec import Spec

PYTHON = "/usr/bin/python3"
LIBCRYPTO = Path("/usr/lib/x86_64-linux-gnu/libcrypto.so.3")
APP_LIBRARY = "/opt/app/lib/libcrypto.so.3"
SITE = "/etc/ssl/site/site.pem"
EXTRA = "/etc/ssl/site/extra.crt"
EXPIRED = "/etc/ssl/site/old.pem"


def certificate(name: str, serial: int, *, ends: dt.datetime, bits: int | None = None) -> bytes:
    """A self-signed PEM certificate: RSA of that size, else EC P-256. The key is new."""
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey = (
        rsa.generate_private_key(65537, bits) if bits else ec.generate_private_key(ec.SECP256R1())
    )
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(min(ends, dt.datetime.now(dt.UTC)) - dt.timedelta(days=90))
        .not_valid_after(ends)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


def maps(*libraries: str) -> str:
    """A service whose one process has those libraries mapped and does nothing."""
    calls = "; ".join(f"ctypes.CDLL('{library}')" for library in libraries)
    return f"""\
[Service]
Type=exec
ExecStart={PYTHON} -c "import ctypes, signal; {calls}; print('mapped', flush=True); signal.pause()"
"""


@cache
def exe() -> str:
    """What /proc/PID/exe says of `PYTHON`."""
    return str(Path(PYTHON).resolve())


def plain(name: str, site: bytes, *, tls_library: str = "libssl.so.3") -> Spec:
    """A host with a site certificate, an application with a libcrypto of its own, and a TLS service."""
    return Spec(
        name,
        files={SITE: site, APP_LIBRARY: LIBCRYPTO.read_bytes()},
        units={"app.service": maps(APP_LIBRARY), "tls.service": maps(tls_library)},
    )


def upgrade_app_library(host: Host) -> None:
    """Put another build of the application's library in place as package managers do: write aside, rename.

    The process that has the old one mapped goes on with it.
    """
    data = LIBCRYPTO.read_bytes()
    old = build_id(LIBCRYPTO)
    assert data.count(old) == 1
    host.write(f"{APP_LIBRARY}.new", data.replace(old, bytes(reversed(old))))
    host.run(["mv", f"{APP_LIBRARY}.new", APP_LIBRARY])


def build_id(path: Path) -> bytes:
    """The build id as readelf reads it."""
    notes = subprocess.run(["readelf", "-n", str(path)], capture_output=True, text=True, check=True).stdout
    found = re.search(r"Build ID: ([0-9a-f]+)", notes)
    assert found is not None
    return bytes.fromhex(found[1])


def mapped_files(host: Host, unit: str) -> set[str]:
    """Files that the unit's process has mapped executable, read from its maps page and not by us."""
    pid = host.run(["systemctl", "show", "--property=MainPID", "--value", unit]).stdout.strip()
    page = host.run(["cat", f"/proc/{pid}/maps"]).stdout
    return {line.split(None, 5)[5] for line in page.splitlines() if " r-xp " in line and "/" in line}
