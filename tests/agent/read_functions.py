# SPDX-License-Identifier: Apache-2.0
"""What honest and hostile readers of files do in a sandbox's child, which finds them by module and name."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable

import msgspec

from agent import errors
from agent.guard import confine, sandbox_wire

SECRET = "a line of the file that nobody may quote"


class Said(msgspec.Struct):
    """An answer of several types."""

    path: bytes
    size: int
    head: bytes


def read(fd: int, path: str, count: int) -> Said:
    """What an honest one does."""
    return Said(os.fsencode(path), os.lseek(fd, 0, os.SEEK_END), os.pread(fd, count, 0))


def pid(fd: int, path: str) -> int:
    """Which process this is."""
    return os.getpid()


def refuse(fd: int, path: str) -> int:
    """Every leaf of the errors, by the file's name."""
    leaf = sandbox_wire.known_errors().get(path.rpartition("/")[2])
    raise (leaf or _OwnError)("/elsewhere", "because, \udcff and \x1b[31m" + "x" * 500)


class _OwnError(errors.MalformedError):
    """One that the other side does not know."""


# -- how a file may end its reader ---------------------------------------------------------------------------


def spoil(fd: int, path: str) -> int:
    """Whatever a file's name says, if it says something; else its size."""
    way = path.rpartition("/")[2]
    if way in WAYS:
        WAYS[way]()
    return os.lseek(fd, 0, os.SEEK_END)


def _recurse(depth: int = 0) -> int:
    return _recurse(depth + 1) + 1


def _loop() -> None:
    while True:
        pass


def _bug() -> None:
    raise LookupError(SECRET)


def _wait() -> None:
    # The parent sends nothing before it has its answer.
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=confine.SOCKET_FD)
    channel.recvmsg(1)


def _memory() -> None:
    held = []
    while True:
        held.append(bytearray(1 << 20))


WAYS: dict[str, Callable[[], object]] = {
    "segfault": lambda: ctypes.string_at(0),
    "abort": lambda: ctypes.CDLL(None).abort(),
    "exit": lambda: os._exit(3),
    "sysexit": sys.exit,
    "loop": _loop,
    "wait": _wait,
    "memory": _memory,
    "one piece of memory": lambda: bytearray(1 << 40),
    "recursion": _recurse,
    "bug": _bug,
}


# -- how a reader may lie ------------------------------------------------------------------------------------


def lie(fd: int, path: str) -> int:
    """Says another type than it promises."""
    return "a word"  # type: ignore[return-value]


def surrogate(fd: int, path: str) -> str:
    """Says what no encoding can carry."""
    return "\udcff"


def giant(fd: int, path: str) -> bytes:
    """Says a lot."""
    return bytes(sandbox_wire.ANSWER_BYTES_MAX if path.endswith("giant") else 10)


def speak(fd: int, path: str) -> int:
    """Has been taken over: writes on the socket what the file's name says, then goes on as before."""
    way = path.rpartition("/")[2]
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=confine.SOCKET_FD)
    if way == "dribble":
        channel.send(struct.pack("<I", 100))
        # Until a time, or a loop would be stopped for its CPU.
        while True:
            channel.send(b"+")
            until = time.monotonic() + 0.05
            while time.monotonic() < until:
                pass
    elif way in WORDS:
        channel.send(WORDS[way])
    channel.detach()
    return 7


def _framed(body: bytes) -> bytes:
    return struct.pack("<I", len(body)) + body


WORDS = {
    "endless": struct.pack("<I", 0xFFFFFFFF) + b"+" * 1000,
    "empty": _framed(b""),
    "no kind": _framed(b"?\x07"),
    "garbage": _framed(b"+\xc1\xc1"),
    "another type": _framed(b"+" + msgspec.msgpack.encode("word")),
    "deep": _framed(b"+" + b"\x91" * 100_000),
    "two values": _framed(b"+\x07\x07"),
    "no such error": _framed(b"-" + msgspec.msgpack.encode(["SystemExit", "x"])),
    "long reason": _framed(b"-" + msgspec.msgpack.encode(["DeniedError", "x" * 301])),
    "some more": _framed(b"+\x01") * 3,
}


# -- what is taken from it -----------------------------------------------------------------------------------

_libc = ctypes.CDLL(None, use_errno=True)


def attempt(fd: int, path: str, parent: int, folder: str) -> dict[str, str]:
    """All that a child must not be able to: what the kernel says of each, `done` where it lets it."""
    said = {}
    for name, way in _attempts(fd, parent, folder).items():
        try:
            result = way()
        except OSError as error:
            said[name] = errno.errorcode[error.errno or 0]
            continue
        number = ctypes.get_errno()
        failed = isinstance(result, int) and result < 0
        said[name] = errno.errorcode[number] if failed else "done"
    return said


# bpf(2), which has no function in the C library.
_BPF = {"x86_64": 321, "aarch64": 280}[os.uname().machine]


def _thread() -> None:
    try:
        threading.Thread(target=int).start()
    except RuntimeError as error:
        raise PermissionError(errno.EPERM, "no thread") from error


# Never closed, or the child would lose it.
_given: list[socket.socket] = []


def _attempts(fd: int, parent: int, folder: str) -> dict[str, Callable[[], object]]:
    given = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=confine.SOCKET_FD)
    _given.append(given)
    return {
        "open a file": lambda: os.open("/etc/passwd", os.O_RDONLY),
        "open relative to a descriptor": lambda: os.open("x", os.O_RDONLY, dir_fd=fd),
        "open by /proc": lambda: os.open(f"/proc/self/fd/{fd}", os.O_RDONLY),
        "make a file": lambda: os.open(f"{folder}/made", os.O_WRONLY | os.O_CREAT),
        "make a directory": lambda: os.mkdir(f"{folder}/made"),
        "remove a file": lambda: os.unlink(f"{folder}/there"),
        "rename a file": lambda: os.rename(f"{folder}/there", f"{folder}/gone"),
        "change a mode": lambda: os.fchmod(fd, 0o777),
        "write": lambda: os.write(fd, b"x"),
        "write to standard error": lambda: os.write(2, b"x"),
        "look at a path": lambda: os.stat("/etc"),
        "list a directory": lambda: os.listdir("/"),
        "make a socket": lambda: socket.socket(socket.AF_INET),
        "make a pair of sockets": socket.socketpair,
        "connect": lambda: given.connect("/run/x"),
        "hand over a descriptor": lambda: socket.send_fds(given, [b"x"], [fd]),
        "make a pipe": os.pipe,
        "keep a descriptor": lambda: os.dup(fd),
        "fork": os.fork,
        "make a thread": _thread,
        "execute": lambda: os.execv("/bin/true", ["true"]),
        "signal the parent": lambda: os.kill(parent, signal.SIGKILL),
        "ask whether the parent is there": lambda: os.kill(parent, 0),
        "signal everybody": lambda: os.kill(-1, 0),
        "trace the parent": lambda: _libc.ptrace(16, parent, 0, 0),
        "read the parent's memory": lambda: _libc.process_vm_readv(parent, 0, 0, 0, 0, 0),
        "become root": lambda: os.setuid(0),
        "raise its limits": lambda: _libc.prlimit(0, 7, bytes(16), 0),
        "change what it is": lambda: _libc.prctl(4, 1, 0, 0, 0),
        "see the parent's network": lambda: _libc.setns(fd, 0),
        "make a namespace": lambda: _libc.unshare(0x10000000),
        "mount": lambda: _libc.mount(b"x", b"/", b"tmpfs", 0, 0),
        "load a program into the kernel": lambda: _libc.syscall(_BPF, 0, 0, 0),
        "make bytes of a file code": lambda: mmap.mmap(
            fd, 1, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC
        ),
        "make its own bytes code": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC),
        "sleep": lambda: time.sleep(0.01),
    }


def descriptors(fd: int, path: str) -> list[int]:
    """Every number that means something here; fstat(2) is not asked, lseek(2) tells too."""
    found = []
    for number in range(1024):
        try:
            os.lseek(number, 0, os.SEEK_CUR)
        except OSError as error:
            if error.errno == errno.EBADF:
                continue
        found.append(number)
    return found


def imports(fd: int, path: str, name: str) -> bool:
    """Whether a module can be imported here."""
    try:
        __import__(name)
    except (ImportError, OSError):
        return False
    return True
