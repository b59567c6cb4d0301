# SPDX-License-Identifier: Apache-2.0
"""Which files does a process execute from? Asked of the kernel in one of two ways, the better one first.

`QueryReader` asks for one mapping at a time with the PROCMAP_QUERY ioctl (Linux 6.11): the kernel skips what
is not executable and file-backed, and no text is written and parsed. `TextReader` reads the whole page. Both
take a descriptor of /proc/PID/maps and give the same mappings; they keep their buffers: one is made for many.

Source: Linux include/uapi/linux/fs.h (struct procmap_query), Documentation/filesystems/proc.rst.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from array import array
from collections import abc
from typing import Protocol, TypeVar

from agent import errors
from agent.procfs.maps import Extent, Mapping, parse_executable

# A process may have 65,530 mappings (vm.max_map_count), of which a large server has some hundreds executable
# and file-backed.
MAPPINGS_MAX = 10_000
# The largest page seen had 3 MiB. Beyond it a process is counted as too large, and the scan goes on.
_PAGE_BYTES_MAX = 16 * 1024 * 1024
_PAGE_BYTES = 256 * 1024

# _IOWR('f', 17, struct procmap_query)
_REQUEST = 0xC0686611
# size, query_flags, query_addr, vma_start, vma_end, vma_flags, vma_page_size, vma_offset, inode,
# dev_major, dev_minor, vma_name_size, build_id_size, vma_name_addr, build_id_addr
_QUERY = struct.Struct("=9Q4I2Q")
_ANSWER = struct.Struct("=QQ16xQQIII")
_ANSWER_AT = 24
# As a 64-bit word of the structure.
_ADDRESS_WORD = 2
_VMA_EXECUTABLE, _COVERING_OR_NEXT, _FILE_BACKED = 0x04, 0x10, 0x20
# The kernel writes no longer name (PATH_MAX).
_NAME_BYTES = 4096
# How kernels and sandboxes say that they have no such request.
_NOT_OFFERED = {errno.ENOTTY, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}


_T = TypeVar("_T")


class NotOfferedError(errors.AgentError):
    """This kernel has no PROCMAP_QUERY; the message says how it said so."""


class Reader(Protocol):
    """One way to ask."""

    rung: str

    def executable(
        self, fd: int, path: str, known: abc.Mapping[Extent, _T]
    ) -> tuple[list[_T], list[Mapping]]:
        """Executable file-backed mappings of the process whose maps page is open, by address.

        Args:
            fd: the open page.
            path: its path, for messages.
            known: what is known of extents already: most files of most processes.

        Returns:
            What is known of those that are, and the mappings of those that are not.

        Raises:
            VanishedError: the process has ended, or is none (a kernel thread has no memory).
            TooLargeError: there are more than we read.
            HostError: any other reason.
        """
        ...

    def names(self, fd: int, mapping: Mapping, path: str) -> tuple[bytes, ...]:
        """What a mapping's file may be called, ` (deleted)` included: one name, or the likelier of two first.

        Raises:
            VanishedError: it is no longer mapped.
            HostError: any other reason.
        """
        ...


class QueryReader:
    """PROCMAP_QUERY."""

    rung = "procmap-query"

    def __init__(self) -> None:
        self._query = bytearray(_QUERY.size)
        flags = _VMA_EXECUTABLE | _FILE_BACKED | _COVERING_OR_NEXT
        _QUERY.pack_into(self._query, 0, _QUERY.size, flags, *[0] * 13)
        self._words = memoryview(self._query).cast("Q")
        # An array has an address to give to the kernel.
        self._name = array("B", bytes(_NAME_BYTES))
        self._text = TextReader()

    def executable(
        self, fd: int, path: str, known: abc.Mapping[Extent, _T]
    ) -> tuple[list[_T], list[Mapping]]:
        """See `Reader`. Raises NotOfferedError too."""
        query, words, ioctl, unpack = self._query, self._words, fcntl.ioctl, _ANSWER.unpack_from
        values: list[_T] = []
        others: list[Mapping] = []
        words[_ADDRESS_WORD] = 0
        try:
            for _ in range(MAPPINGS_MAX):
                ioctl(fd, _REQUEST, query)
                start, end, offset, inode, major, minor, _ = unpack(query, _ANSWER_AT)
                words[_ADDRESS_WORD] = end
                extent = (inode, major, minor, offset, end - start)
                if extent in known:
                    values.append(known[extent])
                else:
                    others.append(Mapping(extent, start, end))
        except OSError as error:
            # No mapping at this address or beyond: the ordinary end.
            if error.errno == errno.ENOENT:
                return values, others
            if error.errno in _NOT_OFFERED:
                word = errno.errorcode[error.errno]
                raise NotOfferedError(f"the kernel has no PROCMAP_QUERY ({word})") from error
            raise errors.host_error(error, path) from error
        raise errors.TooLargeError(path, f"more than {MAPPINGS_MAX} executable mappings")

    def names(self, fd: int, mapping: Mapping, path: str) -> tuple[bytes, ...]:
        """See `Reader`. A second question: writing a name costs the kernel as much as finding a mapping."""
        query = bytearray(_QUERY.size)
        at = self._name.buffer_info()[0]
        _QUERY.pack_into(query, 0, _QUERY.size, 0, mapping.start, *[0] * 8, _NAME_BYTES, 0, at, 0)
        try:
            fcntl.ioctl(fd, _REQUEST, query)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return self._long_names(fd, mapping, path)
            raise errors.host_error(error, path) from error
        start, end, offset, *file, size = _ANSWER.unpack_from(query, _ANSWER_AT)
        if (*file, offset, end - start) != mapping.extent:
            raise errors.VanishedError(path, "the mapping was replaced while we looked")
        # The size counts the terminating zero.
        return (self._name[: size - 1].tobytes(),)

    def _long_names(self, fd: int, mapping: Mapping, path: str) -> tuple[bytes, ...]:
        for other in self._text.executable(fd, path, {})[1]:
            if other[:3] == mapping[:3]:
                return other.names
        raise errors.VanishedError(path, "the mapping was replaced while we looked")


class TextReader:
    """The page of text."""

    rung = "maps-text"

    def __init__(self) -> None:
        self._page = bytearray()

    def executable(
        self, fd: int, path: str, known: abc.Mapping[Extent, _T]
    ) -> tuple[list[_T], list[Mapping]]:
        """See `Reader`."""
        try:
            os.lseek(fd, 0, os.SEEK_SET)
        except OSError as error:
            # A host that is a directory may have anything in the page's place, a FIFO too.
            raise errors.host_error(error, path) from error
        size = self._read(fd, path)
        if not size:
            raise errors.VanishedError(path, "it has no memory")
        found = parse_executable(self._page, size)
        if len(found) > MAPPINGS_MAX:
            raise errors.TooLargeError(path, f"more than {MAPPINGS_MAX} executable mappings")
        values = [known[one.extent] for one in found if one.extent in known]
        return values, [one for one in found if one.extent not in known]

    def names(self, fd: int, mapping: Mapping, path: str) -> tuple[bytes, ...]:
        """See `Reader`."""
        return mapping.names

    def _read(self, fd: int, path: str) -> int:
        """The page into the buffer, which grows to the largest page met; returns the page's size."""
        size = 0
        while True:
            if size == len(self._page):
                if size >= _PAGE_BYTES_MAX:
                    raise errors.TooLargeError(path, f"more than {_PAGE_BYTES_MAX} bytes")
                self._page += bytes(size or _PAGE_BYTES)
            try:
                # The kernel gives about one page of memory at a time, whatever is asked for.
                count = os.readv(fd, [memoryview(self._page)[size:]])
            except OSError as error:
                raise errors.host_error(error, path) from error
            if not count:
                return size
            size += count
