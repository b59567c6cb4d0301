# SPDX-License-Identifier: Apache-2.0
"""How does a host become known to a collector, and what did that give it?

The way in: fetch the CA's certificate over an unverified connection, compare its key with the pin that the
operator was told, and only then connect again, verified by that CA alone, and send the token with a proof of
the host's key. What comes back is kept in the state directory. Doing it again with the same token gives the
same answer.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, TextIO

import msgspec
from msgspec import Meta, Struct

from agent import errors
from agent.model import canonical, wire
from agent.model.inventory import Digest
from agent.posting import signing
from agent.posting.identity import HostKey, ensure_key
from agent.secret import Secret
from agent.settings import Collector
from agent.state import StateDirectory
from agent.words import why

if TYPE_CHECKING:
    from agent.posting.client import Client

_FILE = "enrolment.json"
_FILE_BYTES_MAX = 256 * 1024
_PSEUDONYM_KEY_BYTES = 32
TOKEN_ENV = "CRYPTOFLEET_TOKEN"  # noqa: S105 - the name of a variable; no token itself
# As in wire.EnrollRequest.
_TOKEN_CHARS_MIN, _TOKEN_CHARS_MAX = 16, 200


@dataclass(frozen=True, kw_only=True)
class Enrolment:
    """What this host knows of its collector, and what the collector gave it."""

    url: str
    host_id: str
    ca_pem: bytes
    """The certificates that the collector's own must be issued by; nothing else is trusted."""
    ca_pins: tuple[str, ...]
    """Keys that such certificates may have: the present CA's, and its successor's once that is known."""
    pseudonym_key: Secret
    """Base64 of the 32 bytes that human users' names are hidden with."""
    pseudonym_key_id: str
    next_post_s: int

    def pseudonym_bytes(self) -> bytes:
        """The key itself, for agent.redact.Pseudonyms."""
        return base64.b64decode(self.pseudonym_key.reveal())


class _File(Struct, omit_defaults=True, kw_only=True):
    """The same on disk, where the key is in the clear and the file 0600."""

    url: str
    host_id: str
    ca_pem: str
    ca_pins: tuple[Digest, ...]
    pseudonym_key: Annotated[str, Meta(max_length=64)]
    pseudonym_key_id: str
    next_post_s: int


def load(state: StateDirectory) -> Enrolment | None:
    """What the last enrolment gave, or None.

    Raises:
        StateError: it cannot be read or is damaged.
    """
    data = state.read(_FILE, _FILE_BYTES_MAX)
    if data is None:
        return None
    try:
        found = msgspec.json.decode(data, type=_File)
        _check_pseudonym_key(found.pseudonym_key)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError):
        # Not the library's words: they may quote the file, and it holds a key.
        raise errors.StateError(f"{state.path}/{_FILE} is damaged; enrol this host again") from None
    return Enrolment(
        url=found.url,
        host_id=found.host_id,
        ca_pem=found.ca_pem.encode(),
        ca_pins=found.ca_pins,
        pseudonym_key=Secret(found.pseudonym_key),
        pseudonym_key_id=found.pseudonym_key_id,
        next_post_s=found.next_post_s,
    )


def kept_ns(state: StateDirectory) -> int | None:
    """When it was kept, in nanoseconds since 1970: at enrolment, or with a new CA. Raises StateError."""
    return state.written_ns(_FILE)


def require(state: StateDirectory) -> Enrolment:
    """What the last enrolment gave.

    Raises:
        ConfigError: there was none.
        StateError: it cannot be read or is damaged.
    """
    found = load(state)
    if found is None:
        raise errors.ConfigError(
            f"this host is not enrolled (nothing in {state.path}); run `fleet-agent enroll` with the"
            f" collector's URL, its pin and a token"
        )
    return found


def enrol(
    state: StateDirectory,
    collector: Collector,
    token: Secret,
    *,
    hostname: str,
    clock_ns: Callable[[], int],
    machine_id_sha256: str | None = None,
) -> tuple[Enrolment, str | None]:
    """Make this host known to the collector and keep what it answers. A host without a key makes one.

    Args:
        state: where key and answer are kept.
        collector: its URL, its pin or CA file (then nothing is fetched unverified), and the way there.
        token: as `fleet token create` printed it.
        hostname: a hint for people.
        clock_ns: the host's wall clock.
        machine_id_sha256: as the manifest has it.

    Returns:
        What was kept, and words about the host's clock where the certificate's dates did not fit it.

    Raises:
        UsageError: no URL, neither pin nor CA, or a text that cannot be one.
        ConfigError: the URL is none of a collector, or the CA file cannot be read.
        StateError: the state directory cannot be used; an enrolment that was there is still there.
        RefusedError: the collector will not have this host; most often the token is spent or has ended.
        UnreachableError: network or TLS; try again.
        CollectorError: the CA is not the pinned one, or the answer is not a collector's.
    """
    from agent.posting import client

    if collector.url is None:
        raise errors.UsageError("no collector is named; give its URL, https://HOST[:PORT]")
    url = client.collector_url(collector.url)
    ca = _trusted_ca(url, collector, clock_ns)
    key = ensure_key(state)
    request = wire.EnrollRequest(
        token=token.reveal(),
        public_key=key.public_base64,
        hostname=hostname,
        proof=signing.enrolment_proof(token, key),
        machine_id_sha256=machine_id_sha256,
    )
    with connect(url, ca, collector, clock_ns) as connection:
        answer = connection.exchange(
            "POST",
            "/v1/enroll",
            canonical.encode(request),
            headers={"Content-Type": wire.MEDIA_JSON},
            hide=[token],
        )
        found = _enrolment(answer.body, url, ca, key)
        _save(state, found)
        return found, connection.clock_doubt


def connect(url: str, ca: bytes, way: Collector, clock_ns: Callable[[], int]) -> Client:
    """A client that trusts this CA alone.

    Args:
        url: as `agent.posting.client.collector_url` writes it.
        ca: PEM.
        way: proxy and time limit.
        clock_ns: the host's wall clock.
    """
    from agent.posting import client, tls

    trust = partial(tls.verified_context, ca)
    return client.Client(url, trust, clock_ns, proxy=way.proxy, timeout_s=way.timeout_s)


def follow_ca(
    state: StateDirectory, enrolment: Enrolment, way: Collector, clock_ns: Callable[[], int]
) -> Enrolment:
    """Learn a changed CA certificate, when its key is one of those the collector announced at enrolment.

    Args:
        state: where the enrolment is kept.
        enrolment: the present one.
        way: proxy and time limit.
        clock_ns: the host's wall clock.

    Returns:
        The enrolment with the new certificate, kept.

    Raises:
        CollectorError: what is there now was not announced, or cannot be fetched. Nothing is changed.
        StateError: the new certificate cannot be kept.
    """
    found = replace(enrolment, ca_pem=_fetch_ca(enrolment.url, enrolment.ca_pins, way, clock_ns))
    _save(state, found)
    return found


def read_token(path: str | None, environ: Mapping[str, str], stdin: TextIO) -> Secret:
    """The enrolment token, from where other users cannot see it: never from the command line itself.

    Args:
        path: of a file; `-` is standard input; None is the environment's CRYPTOFLEET_TOKEN.
        environ: the environment.
        stdin: standard input.

    Raises:
        UsageError: there is none, or it cannot be one.
    """
    if path == "-":
        text = stdin.readline(_TOKEN_CHARS_MAX + 2)
    elif path is not None:
        try:
            with open(path, encoding="ascii") as file:
                text = file.read(_TOKEN_CHARS_MAX + 2)
        except OSError as error:
            raise errors.UsageError(f"cannot read the token from {path}: {why(error)}") from error
        except UnicodeDecodeError:
            # Not its words: they quote the file.
            raise errors.UsageError(f"{path} holds no token; `fleet token create` prints one") from None
    else:
        text = environ.get(TOKEN_ENV, "")
    text = text.strip()
    if not text:
        raise errors.UsageError(
            f"there is no enrolment token; `fleet token create` prints one. Give it with --token-file PATH,"
            f" --token-file - (standard input), or {TOKEN_ENV}"
        )
    if (
        not _TOKEN_CHARS_MIN <= len(text) <= _TOKEN_CHARS_MAX
        or not text.isascii()
        or not text.isprintable()
        or " " in text
    ):
        raise errors.UsageError("that is no enrolment token; `fleet token create` prints one")
    return Secret(text)


def _trusted_ca(url: str, collector: Collector, clock_ns: Callable[[], int]) -> bytes:
    from agent.posting import tls

    pin = collector.pin
    if pin is not None and not re.fullmatch(wire.PIN_PATTERN, pin):
        raise errors.UsageError(
            # Not quoted: it may be the token, in the wrong place.
            "what was given as the pin is none; `fleet serve --init` prints it: sha256: and 64 hex digits"
        )
    if collector.ca_file is not None:
        try:
            with open(collector.ca_file, "rb") as file:
                pem = file.read(_FILE_BYTES_MAX)
        except OSError as error:
            words = why(error)
            raise errors.ConfigError(f"cannot read the CA from {collector.ca_file}: {words}") from error
        found = tls.certificates(pem, collector.ca_file)
        # What is kept is certificates and nothing else: people keep keys and comments in such files.
        return tls.pinned(pem, [pin] if pin else set(map(tls.pin_of, found)), collector.ca_file)
    if pin is None:
        raise errors.UsageError(
            "nothing says which collector is the right one; give --pin (`fleet serve --init` prints it)"
            " or --ca-file"
        )
    return _fetch_ca(url, [pin], collector, clock_ns)


def _fetch_ca(url: str, pins: Collection[str], way: Collector, clock_ns: Callable[[], int]) -> bytes:
    from agent.posting import client, tls

    trust = tls.unverified_context
    with client.Client(url, trust, clock_ns, proxy=way.proxy, timeout_s=way.timeout_s) as connection:
        body = connection.exchange("GET", "/v1/ca").body
    return tls.pinned(body, pins, f"the CA that {url} presents")


def _enrolment(body: bytes, url: str, ca: bytes, key: HostKey) -> Enrolment:
    from agent.posting.client import bounded_pace_s

    try:
        reply = msgspec.json.decode(body, type=wire.EnrollReply)
        _check_pseudonym_key(reply.pseudonym_key)
        pins = msgspec.convert(reply.ca_pins, type=tuple[Digest, ...])
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError):
        # Not the library's words: they may quote the answer, and it holds a key.
        raise errors.CollectorError(f"{url} did not answer as a collector does to an enrolment") from None
    if reply.host_id != key.host_id:
        raise errors.CollectorError(
            f"{url} calls this host {reply.host_id[:80]!r}, but its key makes it {key.host_id};"
            f" are both of one version?"
        )
    return Enrolment(
        url=url,
        host_id=reply.host_id,
        ca_pem=ca,
        ca_pins=pins,
        pseudonym_key=Secret(reply.pseudonym_key),
        pseudonym_key_id=reply.pseudonym_key_id,
        next_post_s=bounded_pace_s(reply.next_post_s),
    )


def _check_pseudonym_key(text: str) -> None:
    """Raises ValueError (binascii.Error is one) for anything but base64 of 32 bytes."""
    if len(base64.b64decode(text, validate=True)) != _PSEUDONYM_KEY_BYTES:
        raise ValueError


def _save(state: StateDirectory, enrolment: Enrolment) -> None:
    document = _File(
        url=enrolment.url,
        host_id=enrolment.host_id,
        ca_pem=enrolment.ca_pem.decode("ascii"),
        ca_pins=enrolment.ca_pins,
        pseudonym_key=enrolment.pseudonym_key.reveal(),
        pseudonym_key_id=enrolment.pseudonym_key_id,
        next_post_s=enrolment.next_post_s,
    )
    state.write(_FILE, canonical.encode(document) + b"\n")
