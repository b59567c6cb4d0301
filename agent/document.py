# SPDX-License-Identifier: Apache-2.0
"""How do scans become a document? Entries are split into parts, encoded, digested and named in a manifest."""

from __future__ import annotations

import hashlib
import hmac
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
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
from agent.redact import Redaction, redact_entries, redact_example, redact_words
from agent.scanners import Scan, Spec

# machine-id(5) asks for a keyed hash, so that the same id hashed by two products cannot be matched.
_MACHINE_ID_KEY = b"cryptofleet machine-id"


# os-release and its like have under 1 KiB. Whatever fills this, escaped, still is a string that every reader
# takes.
_PAGE_BYTES_MAX = 8 * 1024


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
    if scan is None or outcome.failure is not None:
        return SectionState(
            status="failed",
            detector=spec.detector,
            sampled=spec.sampled,
            reason=_words(outcome.failure or "failed without a word", redaction),
            parts=PartDigests(),
        )
    scan = replace(scan, skipped=dict(scan.skipped), examples=list(scan.examples))
    halves = _halves(scan, redact_entries(scan.entries, redaction))
    return SectionState(
        status=scan.status,
        detector=spec.detector,
        sampled=spec.sampled,
        reason=None if scan.reason is None else _words(scan.reason, redaction),
        # What vanished while we looked differs at every look and says nothing of the host; it goes to `live`.
        skipped={reason: count for reason, count in scan.skipped.items() if reason != "vanished"},
        examples=tuple(sorted(redact_example(example, redaction) for example in scan.examples)),
        rung=scan.rung,
        rung_reason=None if scan.rung_reason is None else _words(scan.rung_reason, redaction),
        parts=PartDigests(
            **{name: _keep(half, parts) for name, half in zip(("vendor", "local"), halves, strict=True)}
        ),
    )


def _words(words: str, redaction: Redaction) -> str:
    """Words for people, who may be hidden in them. Errors quote paths as they are, in any bytes."""
    return redact_words(words.encode("utf-8", "backslashreplace").decode(), redaction)


def _halves(scan: Scan, entries: list[Entry]) -> list[bytes | None]:
    """What a package owns is one part, the rest another: a fleet shares the first almost whole."""
    vendor = [entry for entry in entries if entry.where.package is not None]
    local = [entry for entry in entries if entry.where.package is None]
    return [encode_part(half) if half else None for half in (_fit(scan, vendor), _fit(scan, local))]


def _fit(scan: Scan, entries: list[Entry]) -> list[Entry]:
    """Those that every reader takes; the others are counted.

    The largest are left out first: who fills a host with long names hides those, and nobody else's.
    """
    kept: list[Entry] = []
    left = limits.PART_BYTES_MAX - len(b"[]")
    sized = sorted((len(canonical.encode(entry)), entry.key, entry) for entry in entries)
    for size, _, entry in sized:
        left -= size + len(b",")
        if size > limits.STRING_CHARS_MAX and not _is_readable(entry):
            scan.skip("too_large", f"entry {entry.key}")
        elif left < 0 or len(kept) == limits.ENTRIES_MAX:
            scan.skip("budget", f"entry {entry.key}")
        else:
            kept.append(entry)
    return kept


def _is_readable(entry: Entry) -> bool:
    try:
        canonical.check_received(canonical.encode(entry))
    except canonical.MalformedDocumentError:
        return False
    return True


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
        kernel=_or_none(lambda: _page(host, "/proc/sys/kernel/osrelease")),
        # A host that is a directory does not run, so it has no machine to ask.
        arch=os.uname().machine if host.root == "/" else None,
        labels=dict(labels),
    )


def _or_none(read: Any) -> str | None:  # noqa: ANN401 - a callable that reads the host
    try:
        return str(read()) or None
    except errors.HostError:
        return None


def machine_id(host: Host) -> str | None:
    """Keyed hash of /etc/machine-id, hex; None where there is none."""
    found = _or_none(lambda: _page(host, "/etc/machine-id"))
    return None if found is None else hmac.new(_MACHINE_ID_KEY, found.encode(), hashlib.sha256).hexdigest()


def _os_name(host: Host) -> str | None:
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        for line in (_or_none(lambda path=path: _page(host, path)) or "").split("\n"):
            if line.startswith("PRETTY_NAME="):
                return line.partition("=")[2].strip().strip("\"'") or None
    return None


def _page(host: Host, path: str) -> str:
    """A page that tells who a host is, escaped. Raises HostError."""
    return canonical.escape_bytes(host.read(path, _PAGE_BYTES_MAX)).strip()


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
