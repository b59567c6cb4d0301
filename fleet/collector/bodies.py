# SPDX-License-Identifier: Apache-2.0
"""What are the bytes of a request's document? Read and unpacked within limits, compared with their digest."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from typing import Any, TypeVar

from http_message_signatures import InvalidSignature
from http_message_signatures.digests import ContentDigest

from agent.model import limits, wire
from fleet import errors
from fleet.collector.service import AnyRequest

T = TypeVar("T")

# Beyond this a body waits for its turn, and its work is done beside the event loop: checking 64 KiB of JSON
# takes some 3 ms, for which nobody else is served.
LARGE_BYTES = 64 * 1024
# A sender that pauses longer has lost its line; one that needs longer in all has 8 MiB at 70 KiB/s.
_PAUSE_S = 15.0
_TOTAL_S = 120.0
_PIECE_BYTES = 64 * 1024
_NOT_CHUNKED = "send Content-Length; a chunked body is not taken"


async def read(request: AnyRequest, document_bytes_max: int) -> bytes:
    """The document a request carries, unpacked.

    Args:
        request: its headers are known, its body is not yet read; where it is signed, the signature was
            verified.
        document_bytes_max: how large the unpacked document may be.

    Raises:
        errors.RefusedError: unsupported-media, length-required, too-large, timeout, inconsistent (digest),
            malformed (gzip).
    """
    headers = request.headers
    media = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != wire.MEDIA_JSON:
        raise errors.RefusedError(
            "unsupported-media", f"the content type is {media[:80]!r}; send {wire.MEDIA_JSON}"
        )
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("identity", "gzip"):
        raise errors.RefusedError(
            "unsupported-media", f"the content encoding is {coding[:80]!r}; send gzip or none"
        )
    if "transfer-encoding" in headers:
        # Together with a length it is how requests are smuggled past a proxy (RFC 9112 section 6.1).
        raise errors.RefusedError("length-required", _NOT_CHUNKED)
    body = await _receive(
        request, _length(headers.get("content-length"), min(limits.BODY_BYTES_MAX, document_bytes_max))
    )
    digest = ", ".join(headers.getall("content-digest", []))
    if digest:
        try:
            ContentDigest.verify(digest, body)
        except InvalidSignature as error:
            detail = "Content-Digest (RFC 9530) is not the SHA-256 of the body as it arrived"
            raise errors.RefusedError("inconsistent", detail) from error
    if coding == "identity":
        return body
    if len(body) <= LARGE_BYTES:
        return unpack(body, document_bytes_max)
    return await asyncio.to_thread(unpack, body, document_bytes_max)


def is_large(request: AnyRequest) -> bool:
    """Whether the body, as announced, must wait for its turn."""
    length = request.headers.get("content-length", "")
    # A length of more digits than the limit has, leading zeros included, is large; reading it refuses most.
    return length.isascii() and length.isdigit() and (len(length) > 8 or int(length) > LARGE_BYTES)


async def beside(work: Callable[[bytes], T], body: bytes) -> T:
    """Do the work on a document, beside the event loop if it is large."""
    return work(body) if len(body) <= LARGE_BYTES else await asyncio.to_thread(work, body)


def unpack(body: bytes, bytes_max: int) -> bytes:
    """The content of one gzip stream (RFC 1952), no more bytes than allowed in all and for its size.

    Raises:
        errors.RefusedError: too-large as soon as a limit is passed; malformed when it is not exactly one
            whole stream.
    """
    allowed = min(bytes_max, limits.EXPANSION_RATIO_MAX * len(body))
    stream = zlib.decompressobj(wbits=31)
    found = bytearray()
    rest = body
    try:
        while not stream.eof:
            piece = stream.decompress(rest, _PIECE_BYTES)
            rest = stream.unconsumed_tail
            found += piece
            if len(found) > allowed:
                ratio = limits.EXPANSION_RATIO_MAX
                detail = f"the body unpacks to more than {allowed} bytes (at most {ratio} times its size)"
                raise errors.RefusedError("too-large", detail, limit=allowed)
            if not piece and not rest:
                break
    except zlib.error as error:
        raise errors.RefusedError(
            "malformed", "the body is not gzip, though Content-Encoding says so"
        ) from error
    if not stream.eof:
        raise errors.RefusedError("malformed", "the gzip stream ends early")
    if stream.unused_data:
        raise errors.RefusedError("malformed", "something follows the gzip stream")
    return bytes(found)


def _length(text: str | None, bytes_max: int) -> int:
    if text is None:
        raise errors.RefusedError("length-required", _NOT_CHUNKED)
    if not (text.isascii() and text.isdigit()) or len(text) > 15:
        raise errors.RefusedError("malformed", "Content-Length is not a number of bytes")
    if int(text) > bytes_max:
        raise errors.RefusedError(
            "too-large", f"the body has {text} bytes; the limit here is {bytes_max}", limit=bytes_max
        )
    return int(text)


async def _receive(request: AnyRequest, length: int) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(_TOTAL_S):
            while True:
                async with asyncio.timeout(_PAUSE_S):
                    message: Any = await request.receive()
                if message["type"] != "http.request":
                    raise errors.RefusedError("timeout", "the connection ended before the body did")
                body += message.get("body", b"")
                if len(body) > length:
                    raise errors.RefusedError("malformed", "the body is longer than its Content-Length")
                if not message.get("more_body", False):
                    break
    except TimeoutError as error:
        allowed = f"{_PAUSE_S:.0f} s a piece, {_TOTAL_S:.0f} s in all"
        detail = f"{len(body)} of {length} bytes arrived in time ({allowed})"
        raise errors.RefusedError("timeout", detail) from error
    if len(body) != length:
        raise errors.RefusedError(
            "malformed", f"the body has {len(body)} bytes, its Content-Length says {length}"
        )
    return bytes(body)
