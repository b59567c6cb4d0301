# SPDX-License-Identifier: Apache-2.0
"""Where do the elements of a DER encoding begin and end? The framing alone (ITU-T X.690), no meaning.

For what the certificate library refuses as a whole though one element of it is odd, and for telling a DER
file by its bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

INTEGER = 0x02
BIT_STRING = 0x03
OCTET_STRING = 0x04
OBJECT_IDENTIFIER = 0x06
SEQUENCE = 0x30
SET = 0x31


class MalformedDerError(ValueError):
    """The bytes are not framed as DER. The message quotes none of them: they may be a secret."""


@dataclass(frozen=True, slots=True)
class Element:
    """One tag, length and value inside a larger buffer."""

    data: bytes
    tag: int
    start: int
    """Offset of the tag."""
    content: int
    """Offset of the value."""
    end: int

    @property
    def value(self) -> bytes:
        """The bytes of the value."""
        return self.data[self.content : self.end]

    @property
    def encoded(self) -> bytes:
        """Tag, length and value as they stand."""
        return self.data[self.start : self.end]

    def children(self) -> list[Element]:
        """The elements of a constructed value, which they must fill exactly.

        Raises:
            MalformedDerError: they do not.
        """
        found = []
        at = self.content
        while at < self.end:
            found.append(read(self.data, at, self.end))
            at = found[-1].end
        return found

    def parts(self, count: int) -> list[Element]:
        """The elements of a constructed value that has exactly so many.

        Raises:
            MalformedDerError: it has another number of them, or is not constructed.
        """
        found = self.children() if self.tag & 0x20 else []
        if len(found) != count:
            raise MalformedDerError(f"an element has not the {count} parts of its kind")
        return found


def read(data: bytes, at: int = 0, end: int | None = None) -> Element:
    """The element that begins at an offset.

    Args:
        end: where the surrounding element ends; the end of the data by default.

    Raises:
        MalformedDerError: a tag of several bytes, an indefinite or overlong length, or less data than the
            length says.
    """
    end = len(data) if end is None else end
    if at + 2 > end:
        raise MalformedDerError("too short for a tag and a length")
    tag, length = data[at], data[at + 1]
    content = at + 2
    if tag & 0x1F == 0x1F:
        raise MalformedDerError("a tag of several bytes")
    if length >= 0x80:
        count = length & 0x7F
        # Four bytes of length are 4 GiB; no such element is in a file we read.
        if not 1 <= count <= 4 or content + count > end:
            raise MalformedDerError("an indefinite or overlong length")
        length = int.from_bytes(data[content : content + count], "big")
        content += count
    if content + length > end:
        raise MalformedDerError("less data than the length says")
    return Element(data, tag, at, content, content + length)


def total_length(head: bytes) -> int | None:
    """Length of the whole element that begins with these bytes; None where they frame nothing."""
    if len(head) < 2:
        return None
    length = head[1]
    if length < 0x80:
        return 2 + length
    count = length & 0x7F
    if not 1 <= count <= 4 or len(head) < 2 + count:
        return None
    return 2 + count + int.from_bytes(head[2 : 2 + count], "big")


def oid(element: Element) -> str:
    """An OBJECT IDENTIFIER in dotted form.

    Raises:
        MalformedDerError: it is none, or it ends within a number.
    """
    value = element.value
    if element.tag != OBJECT_IDENTIFIER or not value or value[-1] & 0x80:
        raise MalformedDerError("not an object identifier")
    numbers = []
    number = 0
    for byte in value:
        number = number << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(number)
            number = 0
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))


def algorithm(element: Element) -> str:
    """The OID of an AlgorithmIdentifier (RFC 5280 section 4.1.1.2) in dotted form.

    Raises:
        MalformedDerError: it is none.
    """
    parts = element.children() if element.tag == SEQUENCE else []
    if not parts:
        raise MalformedDerError("an algorithm without a name")
    return oid(parts[0])


def encode(tag: int, *parts: bytes) -> bytes:
    """An element around parts that are encoded already."""
    value = b"".join(parts)
    if len(value) < 0x80:
        return bytes([tag, len(value)]) + value
    size = len(value).to_bytes((len(value).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size)]) + size + value
