# SPDX-License-Identifier: Apache-2.0
"""Is every asset said in words, also one of a kind that has none of its own?"""

from __future__ import annotations

import pytest

from agent.model.asset import (
    AnyAsset,
    CryptoPolicy,
    FileUse,
    FipsMode,
    Kernel,
    OperatingSystem,
    PublicKey,
    TrustStore,
)
from reports.algorithms import AlgorithmTable
from reports.describe import asset_words, evidence, kind_of
from reports.policy import KINDS
from tests.reports.samples import certificate, entry, library, sha256, use

ML_DSA = PublicKey(algorithm="2.16.840.1.101.3.4.3.18", spki_sha256=sha256("k"))
SAID: list[tuple[AnyAsset, str]] = [
    (certificate(), "CN=www.example.com, RSA 2048, until 2027-12-31"),
    (certificate("", key=ML_DSA), "(no subject), ML-DSA-65, until 2027-12-31"),
    (library(), "openssl libcrypto 3.0.15"),
    (library().__class__(family="nss", name="libnss3"), "nss libnss3 (version not stated)"),
    (use(deleted=True), "openssl libssl 3.0.15 (deleted)"),
    (
        TrustStore(format="pem-bundle", members=(sha256("1"),)),
        "1 certificates, 0 added and 0 removed against no package",
    ),
    (OperatingSystem(id="debian", version="12"), "id debian, version 12"),
    (Kernel(release="6.1.0", machine="x86_64"), "release 6.1.0, machine x86_64"),
    (FipsMode(enabled=False, supported=True), "enabled no, supported yes"),
    (CryptoPolicy(present=False), "present no"),
    (FileUse(access=("read", "write"), results=("ok",)), "access read write, results ok"),
]


@pytest.mark.parametrize(("asset", "said"), SAID)
def test_an_asset_is_one_line(table: AlgorithmTable, asset: AnyAsset, said: str) -> None:
    """Digests say nothing to people and are left to the JSON."""
    assert asset_words(asset, table) == said


def test_every_kind_of_asset_is_said() -> None:
    """A new kind is said by its fields; here it is seen to be."""
    assert {kind_of(asset) for asset, _ in SAID} == set(KINDS)


def test_evidence_is_the_place_and_else_the_key() -> None:
    """Every finding points somewhere."""
    placed = entry("nginx nginx.service", use(), path="/lib/x", exe="/usr/sbin/nginx", unit="nginx.service")

    assert evidence(placed) == ("/lib/x", "exe /usr/sbin/nginx", "unit nginx.service")
    assert evidence(entry("fips-mode", FipsMode(enabled=True, supported=True))) == ("fips-mode",)
