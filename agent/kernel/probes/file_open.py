# SPDX-License-Identifier: Apache-2.0
"""Opens of files that hold keys, certificates or keystores by their name, with the result of each.

The kernel half is bpf/file_open.bpf.c. What a name promises is a hint; whether the file holds what it
promises is the business of whoever reads it.
"""

from __future__ import annotations

import errno
import functools
import os

from agent.kernel.event import (
    CALLS_OPEN,
    EVENT_FILE_OPEN,
    FILE_OPEN,
    NAME_BYTES_MAX,
    NOTE_BASE_CUT,
    NOTE_FLAGS_UNREAD,
    NOTE_NAME_TRUNCATED,
    MalformedEventError,
    NameFilter,
    split_components,
)
from agent.kernel.probes import Event, Spec, executable, timestamp
from agent.model import canonical

SPEC = Spec(
    event=EVENT_FILE_OPEN,
    calls=CALLS_OPEN,
    names=NameFilter(
        # Those that crypto-tracer knew, then other usual names of containers of keys and certificates.
        suffixes=(
            b".pem",
            b".crt",
            b".cer",
            b".key",
            b".p12",
            b".pfx",
            b".jks",
            b".keystore",
            b".der",
            b".csr",
            b".p7b",
            b".gpg",
            b".kdb",
        ),
        basenames=(b"id_", b"ssh_host_"),
        directories=(b"/etc/ssl/", b"/etc/pki/", b"/etc/ssh/"),
    ),
    needs=("CAP_BPF", "CAP_PERFMON"),
    kernel="5.8",
    cost="about 0.1 us for every system call on the host, 0.6 for every open, 2 for one that is reported",
    # A directory that is listed is no file of cryptography; the files in it show when they are opened.
    flags_ignored=os.O_DIRECTORY,
    can_fold=True,
    # 4 MiB hold 25,000 events of 160 bytes: more than a core can produce between two looks 20 ms apart, even
    # when this process is kept waiting for 100 ms.
    ring_bytes=4 * 1024 * 1024,
)

# O_LARGEFILE is 0 in Python where programs need not say it; the kernel's value differs by machine
# (asm/fcntl.h).
_LARGEFILE = {"x86_64": 0o100000, "aarch64": 0o400000}
_NAMES = (
    "O_APPEND", "O_ASYNC", "O_CLOEXEC", "O_CREAT", "O_DIRECT", "O_DIRECTORY",
    "O_DSYNC", "O_EXCL", "O_NOATIME", "O_NOCTTY", "O_NOFOLLOW", "O_NONBLOCK",
    "O_PATH", "O_SYNC", "O_TMPFILE", "O_TRUNC",
)  # fmt: skip
# Those of several bits come first: O_SYNC holds the bit of O_DSYNC, O_TMPFILE that of O_DIRECTORY.
_FLAGS = sorted(
    [(getattr(os, name), name) for name in _NAMES] + [(_LARGEFILE.get(os.uname().machine, 0), "O_LARGEFILE")],
    key=lambda flag: (-flag[0].bit_count(), flag[1]),
)
# The fourth value of the two bits is accepted by Linux: it checks for both permissions and allows only
# ioctl(2).
_ACCESS = ("O_RDONLY", "O_WRONLY", "O_RDWR", "O_WRONLY|O_RDWR")


class FileOpen(Event, kw_only=True, frozen=True, tag="file_open"):
    """One open.

    Attributes:
        file: from the process's own root on where that is known: its chroot, working directory or directory
            descriptor stand before the name. Links are not resolved.
        file_raw: the name as the process wrote it, when that differs.
        flags: names of O_* joined with `|`, the access mode first; unknown bits as one hexadecimal number.
            Empty when they could not be read.
        result: the file descriptor, or the negative errno.
        error: its name, for example ENOENT; None when the file was opened.
        truncated: the name is longer than the kernel accepts, and only its beginning is here.
    """

    file: str
    file_raw: str | None = None
    flags: str
    result: int
    error: str | None = None
    truncated: bool = False


# A stream has few different flags, and taking them apart costs more than all the rest of an event.
@functools.lru_cache(maxsize=256)
def flags_text(flags: int) -> str:
    """`O_RDWR|O_CLOEXEC` for the flags of open(2) on this machine."""
    names = [_ACCESS[flags & os.O_ACCMODE]]
    rest = flags & ~os.O_ACCMODE
    for bits, name in _FLAGS:
        if bits and rest & bits == bits:
            names.append(name)
            rest &= ~bits
    if rest:
        names.append(hex(rest))
    return "|".join(names)


def resolve(base: list[bytes] | None, name: bytes) -> bytes:
    """The path that a name means, without asking the file system.

    Args:
        base: components of the directory that the name begins at, which is real: no link in it. None when
            unknown.
        name: as the process wrote it.

    Returns:
        An absolute path without `.`, without doubled slashes, and without `..` where that is certain: `..`
        after a component of the name may leave through a link, so it stays. The name itself when the base is
        unknown.
    """
    if base is None:
        return name
    if not base and name.startswith(b"/") and b"//" not in name and b"/." not in name:
        return name  # nearly every name is such a one
    parts = list(base)
    # Above the process's own root there is nothing for it; above its working directory there is.
    floor = len(base) if name.startswith(b"/") else 0
    is_certain = True
    for part in name.split(b"/"):
        if part in (b"", b"."):
            continue
        if part == b".." and is_certain:
            if len(parts) > floor:
                parts.pop()
            continue
        is_certain = False
        parts.append(part)
    return b"/" + b"/".join(parts)


def decode(record: bytes, wall_offset_ns: int) -> FileOpen:
    """One record into one event; the contract is in the folder's docstring."""
    if len(record) < FILE_OPEN.size:
        raise MalformedEventError(f"a record of {len(record)} bytes; file_open has at least {FILE_OPEN.size}")
    (
        time_ns, start_ns, cgroup_id, _, tgid, tid, uid, gid, mount_ns, kind, notes, comm,
        flags, result, name_bytes, base_bytes, exe_bytes,
    ) = FILE_OPEN.unpack_from(record)  # fmt: skip
    name_end = FILE_OPEN.size + name_bytes
    base_end = name_end + base_bytes
    # The ring pads nothing, but its header's length is the sum of these; what is not cannot be trusted.
    if kind != EVENT_FILE_OPEN or name_bytes > NAME_BYTES_MAX or base_end + exe_bytes != len(record):
        raise MalformedEventError(
            f"kind {kind}, {name_bytes}, {base_bytes} and {exe_bytes} bytes in a record of {len(record)}"
        )
    name = record[FILE_OPEN.size : name_end]
    base = None if notes & NOTE_BASE_CUT else split_components(record[name_end:base_end])
    path = resolve(base, name)
    file = canonical.escape_bytes(path)
    return FileOpen(
        timestamp=timestamp(time_ns + wall_offset_ns),
        pid=tgid,
        tid=tid,
        uid=uid,
        gid=gid,
        process=canonical.escape_bytes(comm.partition(b"\0")[0]),
        exe=executable(record[base_end:], notes),
        cgroup_id=cgroup_id,
        mount_ns=mount_ns,
        start_ns=start_ns,
        file=file,
        file_raw=None if path == name else canonical.escape_bytes(name),
        flags="" if notes & NOTE_FLAGS_UNREAD else flags_text(flags),
        result=result,
        error=errno.errorcode.get(-result, str(-result)) if result < 0 else None,
        truncated=bool(notes & NOTE_NAME_TRUNCATED),
    )
