# SPDX-License-Identifier: Apache-2.0
"""Which records lie in a BPF ring buffer? Read from its mapping, without a call into C for each.

The layout (kernel/bpf/ringbuf.c): one page with the consumer's position, which we write; one page with the
producer's position; then the data, mapped twice in a row so that no record is ever split. Positions count
bytes since the beginning and only grow. A record is a header of 8 bytes (length with two flag bits, page
offset) and its data, padded to 8 bytes.

Memory order. The kernel publishes a header before the producer's position, and a record's data before it
clears the header's BUSY bit; it reuses memory after it sees our position. So a drain looks at the position,
then at the headers, then at the data, then writes its position, and these four must not be exchanged. x86-64
keeps loads in order; arm64 does not, so between them stands a fence (see `_fence`).
"""

from __future__ import annotations

import mmap
import threading

BUSY = 0x8000_0000
DISCARD = 0x4000_0000
LENGTH = 0x3FFF_FFFF
HEADER_BYTES = 8

# One drain copies at most this much, so that a full ring of any size needs no second ring's worth of memory.
DRAIN_BYTES_MAX = 1024 * 1024


class Ring:
    """The consumer's side of one ring."""

    def __init__(self, consumer: memoryview, producer: memoryview, data: memoryview) -> None:
        """Take the three parts of a mapping.

        Args:
            consumer: begins with the consumer's position; writable.
            producer: begins with the producer's position.
            data: twice the ring's size, which is a power of 2.
        """
        self.bytes = len(data) // 2
        self._mask = self.bytes - 1
        assert self.bytes & self._mask == 0, "the size of a ring is a power of 2"
        self._consumer = consumer[:8].cast("Q")
        self._producer = producer[:8].cast("Q")
        self._data = data
        self._words = data.cast("I")
        self._lock = threading.Lock()
        self._lock.acquire()
        self._mappings: tuple[mmap.mmap, ...] = ()

    @classmethod
    def map(cls, fd: int, size: int) -> Ring:
        """Map the ring of a map's descriptor; `size` is its max_entries. Raises OSError."""
        page = mmap.PAGESIZE
        consumer = mmap.mmap(fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        rest = mmap.mmap(fd, page + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        view = memoryview(rest)
        ring = cls(memoryview(consumer), view[:page], view[page:])
        ring._mappings = (consumer, rest)
        return ring

    def close(self) -> None:
        """Unmap. Records given out before are copies and stay good."""
        for view in (self._consumer, self._producer, self._words, self._data):
            view.release()
        mappings, self._mappings = self._mappings, ()
        for mapping in mappings:
            mapping.close()

    @property
    def is_empty(self) -> bool:
        """Whether nothing was put in since the last drain: cheaper than a drain."""
        return self._producer[0] == self._consumer[0]

    def drain(self) -> tuple[list[bytes], bool]:
        """Records that are complete, oldest first, and whether to drain again at once.

        It stops at a record that is still being written; it and what follows come with a later drain. The
        second value is true when the drain's limit was reached before the producer's position.
        """
        begin = self._consumer[0]
        produced = self._producer[0]
        if produced == begin:
            return [], False
        self._fence()
        words, mask = self._words, self._mask
        stop = min(produced, begin + DRAIN_BYTES_MAX)
        places = []
        at = begin
        while at < stop:
            head = words[(at & mask) >> 2]
            if head & BUSY:
                break
            length = head & LENGTH
            if not head & DISCARD:
                places.append((at - begin + HEADER_BYTES, length))
            at += (HEADER_BYTES + length + 7) & ~7
        is_stopped_by_limit = stop <= at < produced
        self._fence()
        # Whole records may pass the limit by the last one; the second mapping holds what passes the end of
        # the ring.
        offset = begin & mask
        block = bytes(self._data[offset : offset + (at - begin)])
        self._fence()
        self._consumer[0] = at
        return [block[place : place + length] for place, length in places], is_stopped_by_limit

    def _fence(self) -> None:
        # A release followed by an acquire is a barrier for all loads and stores on arm64 (Arm ARM,
        # "barrier-ordered-before"). Python has no fence of its own, but a lock's release and acquire are
        # those two. Three of them per drain cost 0.3 us.
        self._lock.release()
        self._lock.acquire()
