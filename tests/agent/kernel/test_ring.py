# SPDX-License-Identifier: Apache-2.0
"""Are records taken out of a ring whole, in order, once, and never too early? On rings made of bytes."""

from __future__ import annotations

import struct
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from agent.kernel import ring as module
from agent.kernel.ring import BUSY, DISCARD, HEADER_BYTES, Ring


class Producer:
    """The kernel's side, by the layout of kernel/bpf/ringbuf.c."""

    def __init__(self, size: int = 4096, begin: int = 0) -> None:
        self.size = size
        self.consumer = bytearray(struct.pack("=Q", begin))
        self.producer = bytearray(struct.pack("=Q", begin))
        self.data = bytearray(2 * size)
        self.ring = Ring(memoryview(self.consumer), memoryview(self.producer), memoryview(self.data))

    @property
    def position(self) -> int:
        return int(struct.unpack("=Q", self.producer)[0])

    @property
    def consumed(self) -> int:
        return int(struct.unpack("=Q", self.consumer)[0])

    def write(self, record: bytes, flags: int = 0) -> int:
        """Append a record; returns where its header is."""
        at = self.position
        block = struct.pack("=II", len(record) | flags, 0) + record
        block += bytes(-len(block) % 8)
        assert at + len(block) - self.consumed <= self.size, "the ring is full"
        for offset, byte in enumerate(block):
            for mapping in (0, self.size):
                self.data[(at + offset) % self.size + mapping] = byte
        self.producer[:] = struct.pack("=Q", at + len(block))
        return at

    def set_flags(self, at: int, length: int, flags: int) -> None:
        """What the kernel does when it commits or discards."""
        for mapping in (0, self.size):
            struct.pack_into("=I", self.data, at % self.size + mapping, length | flags)


def test_an_empty_ring_gives_nothing() -> None:
    """Most looks are at an empty ring."""
    # Given a ring nobody wrote to
    producer = Producer()
    # When it is drained
    # Then there is nothing, and nothing to wait for
    assert producer.ring.is_empty
    assert producer.ring.drain() == ([], False)


def test_records_come_in_order_with_their_own_length() -> None:
    """The padding to eight bytes is not part of a record."""
    # Given records of all remainders of eight, the empty one included
    producer = Producer()
    records = [bytes([length]) * length for length in range(17)]
    for record in records:
        producer.write(record)
    # When the ring is drained
    # Then they are what was written, and the room is given back
    assert not producer.ring.is_empty
    assert producer.ring.drain() == (records, False)
    assert producer.consumed == producer.position
    assert producer.ring.drain() == ([], False)


def test_a_record_across_the_end_of_the_ring_is_whole() -> None:
    """The second mapping is there for exactly this."""
    # Given a ring whose positions are just before a multiple of its size, and far beyond 32 bits
    producer = Producer(begin=2**40 * 4096 - 40)
    record = bytes(range(200))
    producer.write(b"before")
    producer.write(record)
    # When it is drained
    # Then the record is not cut
    assert producer.ring.drain() == ([b"before", record], False)


def test_a_record_that_is_being_written_stops_the_drain_until_it_is_ready() -> None:
    """Its bytes are not there yet, and what comes after must not overtake it."""
    # Given three records, the second one busy
    producer = Producer()
    producer.write(b"one")
    at = producer.write(b"two", BUSY)
    producer.write(b"three")
    # When the ring is drained, the second one is committed, and the ring is drained again
    first = producer.ring.drain()
    again = producer.ring.drain()
    producer.set_flags(at, 3, 0)
    # Then each comes once, in order
    assert first == ([b"one"], False)
    assert again == ([], False)
    assert producer.ring.drain() == ([b"two", b"three"], False)


def test_a_discarded_record_is_skipped_and_its_room_given_back() -> None:
    """A program may reserve room and change its mind."""
    # Given a discarded record between two others
    producer = Producer()
    producer.write(b"one")
    producer.write(b"never", DISCARD)
    producer.write(b"three")
    # When the ring is drained
    # Then it is as if it had not been
    assert producer.ring.drain() == ([b"one", b"three"], False)
    assert producer.consumed == producer.position


def test_a_busy_record_that_is_discarded_later_is_skipped() -> None:
    """Both bits live in the same word."""
    # Given a record that is busy and marked to be discarded
    producer = Producer()
    at = producer.write(b"maybe", BUSY)
    assert producer.ring.drain() == ([], False)
    # When it is discarded
    producer.set_flags(at, 5, DISCARD)
    # Then it is gone
    assert producer.ring.drain() == ([], False)
    assert producer.consumed == producer.position


def test_a_drain_has_a_limit_and_says_that_there_is_more() -> None:
    """A full ring must not need its size in memory again."""
    # Given more than one drain may take
    producer = Producer()
    records = [bytes([number]) * 100 for number in range(20)]
    for record in records:
        producer.write(record)
    # When it is drained with a small limit until there is no more
    taken: list[bytes] = []
    rounds = 0
    is_more = True
    with patch.object(module, "DRAIN_BYTES_MAX", 300):
        while is_more:
            some, is_more = producer.ring.drain()
            taken += some
            rounds += 1
    # Then nothing is missing, and it took several drains
    assert taken == records
    assert rounds > 1


@given(
    st.lists(
        st.lists(st.tuples(st.binary(max_size=300), st.sampled_from([0, 0, 0, DISCARD])), max_size=8),
        max_size=30,
    ),
    st.integers(0, 2**50),
)
def test_whatever_is_written_comes_out_once(batches: list[list[tuple[bytes, int]]], begin: int) -> None:
    """Any lengths, any position, any number of turns around the ring."""
    # Given a ring that has already turned
    producer = Producer(begin=begin * 8)
    for batch in batches:
        # When a batch is written and the ring drained
        for record, flags in batch:
            producer.write(record, flags)
        # Then it is that batch without the discarded ones
        assert producer.ring.drain() == ([record for record, flags in batch if not flags], False)
    assert producer.consumed == producer.position


def test_a_header_takes_eight_bytes() -> None:
    """BPF_RINGBUF_HDR_SZ of the kernel's UAPI."""
    assert HEADER_BYTES == 8
