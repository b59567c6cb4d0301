# SPDX-License-Identifier: Apache-2.0
"""How do scans become a document? Entries are split into parts, encoded, digested and named in a manifest."""

from __future__ import annotations

import hashlib
import hmac
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import msgspec

import agent
from agent import errors
from agent.host import Host
from agent.model import canonical, limits
from agent.model.inventory import (
    SCHEMA,
    AgentIdentity,
    Entry,
    HostIdentity,
    HostKind,
    Manifest,
    PartDigests,
    SectionState,
    Signature,
    encode_part,
)
from agent.redact import Redaction, redact_entries, redact_words
from agent.scanners import Scan, Spec

# machine-id(5) asks for a keyed hash, so that the same id hashed by two products cannot be matched.
_MACHINE_ID_KEY = b"cryptofleet machine-id"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one scanner did: what it found, or why it failed."""

    spec: Spec
    scan: Scan | None = None
    failure: str | None = None


@dataclass(kw_only=True)
class Draft:
    """A document before it is numbered and signed. `parts` are canonical bytes by digest."""

    host: HostIdentity
    agent: AgentIdentity
    collected_at: str
    sections: dict[str, SectionState]
    parts: dict[str, bytes]
    live: dict[str, Any] = field(default_factory=dict)
    pseudonym_key_id: str | None = None

    def manifest(self, seq: int = 0, host_id: str | None = None) -> Manifest:
        """The manifest under a number; 0 for a document that is not posted."""
        host = msgspec.structs.replace(self.host, host_id=host_id) if host_id else self.host
        return Manifest(
            schema=SCHEMA,
            host=host,
            agent=self.agent,
            collected_at=self.collected_at,
            sections=self.sections,
            seq=seq,
            pseudonym_key_id=self.pseudonym_key_id,
        )

    def sealed(self, manifest: bytes, signature: Signature | None = None) -> dict[str, Any]:
        """The whole document around a manifest's bytes, for `canonical.encode`; hashed bytes are verbatim."""
        document: dict[str, Any] = {
            "manifest": msgspec.Raw(manifest),
            "parts": {digest: msgspec.Raw(data) for digest, data in self.parts.items()},
        }
        if signature is not None:
            document["signature"] = signature
        if self.live:
            document["live"] = self.live
        return document


def compose(
    host: Host,
    outcomes: Mapping[str, Outcome],
    redaction: Redaction,
    *,
    kind: HostKind = "agent",
    labels: Mapping[str, str] | None = None,
    pseudonym_key_id: str | None = None,
) -> Draft:
    """Build a document from what the scanners found, with people hidden.

    Args:
        outcomes: by section name; every scanner that was asked for is in it, the failed ones too.
    """
    sections: dict[str, SectionState] = {}
    parts: dict[str, bytes] = {}
    live: dict[str, Any] = {}
    for name, outcome in sorted(outcomes.items()):
        sections[name] = _section(outcome, redaction, parts)
        if outcome.scan is not None:
            counts = dict(outcome.scan.live)
            if vanished := outcome.scan.skipped.get("vanished"):
                counts["vanished"] = vanished
            if counts:
                live[name] = counts
    return Draft(
        host=_host_identity(host, kind, labels or {}),
        agent=AgentIdentity(version=agent.__version__, digest=_own_digest()),
        collected_at=canonical.timestamp(host.now_ns()),
        sections=sections,
        parts=parts,
        live=live,
        pseudonym_key_id=pseudonym_key_id,
    )


def _section(outcome: Outcome, redaction: Redaction, parts: dict[str, bytes]) -> SectionState:
    spec, scan = outcome.spec, outcome.scan
    failure = outcome.failure
    halves: list[bytes | None] = []
    if scan is not None:
        halves = _halves(redact_entries(scan.entries, redaction))
        size = max(len(half or b"") for half in halves)
        if size > limits.PART_BYTES_MAX:
            failure = f"{len(scan.entries)} entries make {size} bytes; the limit is {limits.PART_BYTES_MAX}"
    if scan is None or failure is not None:
        reason = redact_words(failure or "failed without a word", redaction)
        return SectionState(
            status="failed", detector=spec.detector, sampled=spec.sampled, reason=reason, parts=PartDigests()
        )
    return SectionState(
        status=scan.status,
        detector=spec.detector,
        sampled=spec.sampled,
        reason=None if scan.reason is None else redact_words(scan.reason, redaction),
        # What vanished while we looked differs at every look and says nothing of the host; it goes to `live`.
        skipped={reason: count for reason, count in scan.skipped.items() if reason != "vanished"},
        examples=tuple(sorted(redact_words(example, redaction) for example in scan.examples)),
        rung=scan.rung,
        rung_reason=scan.rung_reason,
        parts=PartDigests(
            **{name: _keep(half, parts) for name, half in zip(("vendor", "local"), halves, strict=True)}
        ),
    )


def _halves(entries: list[Entry]) -> list[bytes | None]:
    """What a package owns is one part, the rest another: a fleet shares the first almost whole."""
    vendor = [entry for entry in entries if entry.where.package is not None]
    local = [entry for entry in entries if entry.where.package is None]
    return [encode_part(half) if half else None for half in (vendor, local)]


def _keep(part: bytes | None, parts: dict[str, bytes]) -> str | None:
    if part is None:
        return None
    digest = canonical.digest(part)
    parts[digest] = part
    return digest


def _host_identity(host: Host, kind: HostKind, labels: Mapping[str, str]) -> HostIdentity:
    return HostIdentity(
        kind=kind,
        hostname=_or_none(host.hostname) or "unknown",
        machine_id_sha256=machine_id(host),
        os=_os_name(host),
        kernel=_or_none(lambda: host.read_text("/proc/sys/kernel/osrelease").strip()),
        arch=os.uname().machine,
        labels=dict(labels),
    )


def _or_none(read: Any) -> str | None:  # noqa: ANN401 - a callable that reads the host
    try:
        return str(read()) or None
    except errors.HostError:
        return None


def machine_id(host: Host) -> str | None:
    """Keyed hash of /etc/machine-id, hex; None where there is none."""
    found = _or_none(lambda: host.read_text("/etc/machine-id").strip())
    return None if found is None else hmac.new(_MACHINE_ID_KEY, found.encode(), hashlib.sha256).hexdigest()


def _os_name(host: Host) -> str | None:
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        for line in (_or_none(lambda path=path: host.read_text(path)) or "").splitlines():
            if line.startswith("PRETTY_NAME="):
                return line.partition("=")[2].strip().strip("\"'") or None
    return None


@cache
def _own_digest() -> str | None:
    """Digest of the frozen file that runs; None when run from source, where no one file is the agent."""
    if not getattr(sys, "frozen", False):
        return None
    whole = hashlib.sha256()
    with open(sys.executable, "rb") as file:
        while chunk := file.read(1 << 20):
            whole.update(chunk)
    return "sha256:" + whole.hexdigest()
