# SPDX-License-Identifier: Apache-2.0
"""Is the private CA one that others trust, and is it kept as a CA must be?"""

from __future__ import annotations

import datetime as dt
import hashlib
import subprocess
from pathlib import Path

import pytest
from cryptography import x509

from fleet import errors
from fleet.authority import (
    RENEW_BEFORE,
    Authority,
    create_authority,
    ensure_server_certificate,
    load_authority,
    own_names,
)

NOW = dt.datetime.now(dt.UTC)
NAMES = ("127.0.0.1", "::1", "fleet.example.org", "localhost")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """A new CA."""
    return create_authority(tmp_path / "ca", NOW)


def openssl(*arguments: str, stdin: bytes = b"") -> bytes:
    """What openssl says."""
    return subprocess.run(
        ["openssl", *arguments], input=stdin, capture_output=True, timeout=30, check=True
    ).stdout


def test_openssl_verifies_the_server_certificate(authority: Authority, tmp_path: Path) -> None:
    """Chain, purpose and names, by a verifier we did not write."""
    files, new = ensure_server_certificate(authority, tmp_path / "tls", NAMES, NOW)
    assert new
    trust = ["-CAfile", str(tmp_path / "ca/ca.pem"), "-x509_strict", "-purpose", "sslserver"]
    for name in (["-verify_hostname", "fleet.example.org"], ["-verify_ip", "::1"]):
        assert b"OK" in openssl("verify", *trust, *name, str(files.chain))
    with pytest.raises(subprocess.CalledProcessError):
        openssl("verify", *trust, "-verify_hostname", "evil.example.org", str(files.chain))


def test_the_pin_is_what_openssl_says_of_the_public_key(authority: Authority, tmp_path: Path) -> None:
    """An operator can check it with one line of shell."""
    public = openssl("x509", "-in", str(tmp_path / "ca/ca.pem"), "-pubkey", "-noout")
    spki = openssl("pkey", "-pubin", "-outform", "DER", stdin=public)
    assert authority.pin == "sha256:" + hashlib.sha256(spki).hexdigest()


def test_the_ca_signs_certificates_and_no_other_ca(authority: Authority) -> None:
    """A server key that leaks must not be able to make more of them."""
    extensions = authority.certificate.extensions
    basic = extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value) == (True, x509.BasicConstraints(ca=True, path_length=0))
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.key_cert_sign, usage.crl_sign, usage.digital_signature) == (True, True, False)


def test_a_ca_is_made_once(authority: Authority, tmp_path: Path) -> None:
    """A second `--init` that made another would lock every agent out."""
    assert create_authority(tmp_path / "ca", NOW).pin == authority.pin
    assert load_authority(tmp_path / "ca").pin == authority.pin


def test_a_crash_before_the_ca_was_complete_is_begun_anew(authority: Authority, tmp_path: Path) -> None:
    """Nobody can have trusted a CA whose key was never written."""
    (tmp_path / "ca/ca.key").unlink()
    assert create_authority(tmp_path / "ca", NOW).pin != authority.pin


def test_a_ca_that_does_not_fit_together_is_told(authority: Authority, tmp_path: Path) -> None:
    """Half a restored backup would make certificates that nobody trusts."""
    create_authority(tmp_path / "other", NOW)
    (tmp_path / "ca/ca.pem").write_bytes((tmp_path / "other/ca.pem").read_bytes())
    with pytest.raises(errors.ConfigError, match="do not belong together"):
        load_authority(tmp_path / "ca")
    (tmp_path / "ca/ca.pem").write_text("nothing")
    with pytest.raises(errors.ConfigError, match="cannot read"):
        load_authority(tmp_path / "ca")
    with pytest.raises(errors.ConfigError, match="--init"):
        load_authority(tmp_path / "none")


@pytest.mark.parametrize(
    ("later", "names", "renewed"),
    [
        (dt.timedelta(0), NAMES, False),
        (dt.timedelta(days=365) - RENEW_BEFORE - dt.timedelta(minutes=1), NAMES, False),
        (dt.timedelta(days=365) - RENEW_BEFORE + dt.timedelta(minutes=1), NAMES, True),
        (dt.timedelta(days=500), NAMES, True),
        (-dt.timedelta(days=2), NAMES, True),
        (dt.timedelta(0), ("localhost",), False),
        (dt.timedelta(0), (*NAMES, "other.example.org"), True),
    ],
)
def test_the_server_certificate_is_renewed_when_it_must_be(
    authority: Authority, tmp_path: Path, later: dt.timedelta, names: tuple[str, ...], renewed: bool
) -> None:
    """Before it ends, and when the collector is to be called otherwise; not at every start."""
    ensure_server_certificate(authority, tmp_path / "tls", NAMES, NOW)
    files, new = ensure_server_certificate(authority, tmp_path / "tls", names, NOW + later)
    assert new == renewed
    certificate = x509.load_pem_x509_certificate(files.chain.read_bytes())
    assert certificate.not_valid_before_utc <= NOW + later < certificate.not_valid_after_utc


@pytest.mark.parametrize("spoil", ["chain", "key"])
def test_a_spoilt_server_certificate_is_replaced(authority: Authority, tmp_path: Path, spoil: str) -> None:
    """It is ours to make again; a crash between its two files must not need a hand."""
    files, _ = ensure_server_certificate(authority, tmp_path / "tls", NAMES, NOW)
    getattr(files, spoil).write_text("half")
    assert ensure_server_certificate(authority, tmp_path / "tls", NAMES, NOW)[1]


def test_a_certificate_of_another_ca_is_replaced(authority: Authority, tmp_path: Path) -> None:
    """Agents trust this CA alone."""
    other = create_authority(tmp_path / "other", NOW)
    ensure_server_certificate(other, tmp_path / "tls", NAMES, NOW)
    assert ensure_server_certificate(authority, tmp_path / "tls", NAMES, NOW)[1]


def test_no_certificate_outlives_its_ca(authority: Authority, tmp_path: Path) -> None:
    """A leaf that is valid longer than its issuer is refused by strict verifiers, and ends without notice."""
    almost = authority.certificate.not_valid_after_utc - dt.timedelta(days=100)
    files, _ = ensure_server_certificate(authority, tmp_path / "tls", NAMES, almost)
    certificate = x509.load_pem_x509_certificate(files.chain.read_bytes())
    assert certificate.not_valid_after_utc == authority.certificate.not_valid_after_utc
    with pytest.raises(errors.ConfigError, match="the CA ended"):
        ensure_server_certificate(authority, tmp_path / "tls", NAMES, almost + dt.timedelta(days=101))


def test_what_is_no_name_is_told(authority: Authority, tmp_path: Path) -> None:
    """A certificate cannot speak for it."""
    with pytest.raises(errors.UsageError, match="neither"):
        ensure_server_certificate(authority, tmp_path / "tls", ("a..b",), NOW)


def test_the_certificate_speaks_for_what_the_collector_is_reached_by() -> None:
    """The address listened on, unless it means any; loopback always; what the operator says."""
    assert {"10.0.0.5", "fleet.example.org", "localhost", "127.0.0.1", "::1"} <= set(
        own_names("10.0.0.5", ("fleet.example.org",))
    )
    assert {"0.0.0.0", "::"}.isdisjoint(own_names("0.0.0.0", ()) + own_names("::", ()))


def test_neither_representation_shows_a_key(authority: Authority) -> None:
    """What is printed in a debugger or a log is the pin."""
    assert repr(authority) == f"Authority({authority.pin})"
