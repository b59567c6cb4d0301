# SPDX-License-Identifier: Apache-2.0
"""Which documents do the tests post? Small inventories that say nothing about any real host."""

from __future__ import annotations

from agent.model import canonical
from agent.model.asset import Certificate, Library, PublicKey, SignatureAlgorithm
from agent.model.inventory import (
    AgentIdentity,
    Entry,
    HostIdentity,
    Manifest,
    PartDigests,
    SectionState,
    encode_part,
)
from agent.model.location import Location, Package


def certificate(number: int, *, directory: str = "/etc/ssl") -> Entry:
    """An entry for the certificate of that number."""
    digest = f"{number:064x}"
    return Entry(
        key=f"{directory}/{number:06d}.pem",
        asset=Certificate(
            sha256=digest,
            subject=f"CN=host{number}.example.org",
            issuer="CN=Example Issuing CA",
            serial=f"{number:x}",
            not_before="2026-01-01T00:00:00.000000Z",
            not_after="2027-01-01T00:00:00.000000Z",
            key=PublicKey(algorithm="EC", spki_sha256=digest, bits=256, curve="secp256r1"),
            signature=SignatureAlgorithm(oid="1.2.840.10045.4.3.2", name="ecdsa-with-SHA256", hash="SHA-256"),
        ),
        where=Location(path=f"{directory}/{number:06d}.pem", owner="root", group="root", mode="0644"),
    )


def library(number: int) -> Entry:
    """An entry for a library that a package owns."""
    path = f"/usr/lib/x86_64-linux-gnu/libcrypto.so.{number}"
    return Entry(
        key=path,
        asset=Library(
            family="openssl", name="libcrypto", soname=f"libcrypto.so.{number}", version=f"{number}.0"
        ),
        where=Location(path=path, package=Package(manager="dpkg", name="libssl", version=f"{number}.0-1")),
    )


def part(*numbers: int) -> bytes:
    """A part with these certificates."""
    return encode_part(certificate(number) for number in numbers)


def section(*, vendor: bytes | None = None, local: bytes | None = None, **more: object) -> SectionState:
    """A section with these parts; complete unless said otherwise."""
    parts = PartDigests(
        vendor=None if vendor is None else canonical.digest(vendor),
        local=None if local is None else canonical.digest(local),
    )
    return SectionState(**{"status": "complete", "detector": 1, "parts": parts, **more})  # type: ignore[arg-type]


def manifest(host_id: str | None, seq: int, sections: dict[str, SectionState], **more: object) -> Manifest:
    """A manifest of that host. `hostname`, `labels`, `kind`, `schema` and `collected_at` can be given."""
    fields = {"hostname": "web1", "kind": "agent", "labels": {}, **more}
    return Manifest(
        schema=fields.pop("schema", 1),  # type: ignore[arg-type]
        collected_at=fields.pop("collected_at", canonical.timestamp(1_700_000_000_000_000_000 + seq * 1000)),  # type: ignore[arg-type]
        host=HostIdentity(host_id=host_id, **fields),  # type: ignore[arg-type]
        agent=AgentIdentity(version="0.1.0"),
        sections=sections,
        seq=seq,
    )
