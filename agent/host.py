# SPDX-License-Identifier: Apache-2.0
"""How does the agent touch the host? The only door to paths, processes, users, the clock and external tools.

Paths inside the agent are `str` with surrogate escapes (os.fsdecode), absolute as the host sees them;
`text` turns one into what a document may carry. The root can be a directory of fixtures, and no path or link
leads out of it.
"""

from __future__ import annotations

import errno
import functools
import os
import stat
import subprocess
import time
from collections.abc import Iterator, Sequence

from agent import errors
from agent.guard import syscalls
from agent.guard.parsing import Function, InProcess, Opened, Parser, T
from agent.model import canonical
from agent.readers.whole import READ_BYTES_MAX, read_fd

# Linux follows at most this many links in one look-up (path_resolution(7)); so do we.
LINKS_MAX = 40
# PATH_MAX (include/uapi/linux/limits.h), with the zero at the end.
PATH_BYTES_MAX = 4096
# The kernel's own limit is 64 (uname(2)); a directory that looks like a host has whatever was put there.
_NAME_BYTES_MAX = 4096
_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


def text(path: str) -> str:
    """The document's form of a path or name: the reversible escape of its bytes."""
    return canonical.escape_bytes(os.fsencode(path))


class _Opened:
    """An open file, closed at the end of its block. A generator would cost a look at a process 3 % more."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __enter__(self) -> int:
        return self._fd

    def __exit__(self, *failure: object) -> None:
        os.close(self._fd)


class Host:
    """One host, seen through its root directory."""

    def __init__(self, root: str = "/", parser: Parser | None = None) -> None:
        """See the class.

        Args:
            root: the directory that is the host's `/`.
            parser: who reads the bytes of files found here; None: this very process.
        """
        self.root = os.path.realpath(root)
        self._prefix = "" if self.root == "/" else self.root
        self._parser = parser or InProcess()
        self._relatives: set[int] = set()

    # -- paths
    # ---------------------------------------------------------------------------------------------------

    def outside(self, path: str) -> str:
        """Where a path of the host stands for this process; no link leads out of a root that is not `/`.

        Raises:
            UnreadableError: no path can be called so, or more than LINKS_MAX links.
        """
        _check_name(path)
        return path if not self._prefix else self._prefix + self.real_path(path)

    def real_path(self, path: str) -> str:
        """The path with every link resolved, as the host sees it; a missing tail stays as it is.

        Raises:
            UnreadableError: more than LINKS_MAX links.
        """
        if not self._prefix:
            return os.path.realpath(path)
        done: list[str] = []
        todo = path.split("/")[::-1]
        links = 0
        while todo:
            name = todo.pop()
            if name in ("", "."):
                continue
            if name == "..":
                del done[-1:]
                continue
            here = "/".join([self._prefix, *done, name])
            try:
                target = os.readlink(here)
            except OSError:
                done.append(name)
                continue
            links += 1
            if links > LINKS_MAX:
                raise errors.UnreadableError(path, "too many levels of symbolic links")
            if target.startswith("/"):
                done.clear()
            todo.extend(target.split("/")[::-1])
        return "/" + "/".join(done)

    def open(self, path: str, *, follow: bool = True) -> _Opened:
        """A file descriptor for reading, closed at the end.

        Never waits on a FIFO; leaves access times alone where it may.

        Raises:
            HostError: the leaf that the kernel's answer means.
        """
        flags = _OPEN_FLAGS if follow else _OPEN_FLAGS | os.O_NOFOLLOW
        # Without `follow` the last component must not be resolved, or O_NOFOLLOW would never see a link.
        where = self.outside(path) if follow else self._outside_parent(path)
        try:
            try:
                fd = os.open(where, flags | os.O_NOATIME)
            except PermissionError:
                # O_NOATIME is for the owner and root alone (open(2)); the file itself may still be readable.
                fd = os.open(where, flags)
        except OSError as error:
            raise errors.host_error(error, path) from error
        return _Opened(fd)

    def open_regular(self, path: str) -> int | None:
        """A descriptor for reading of a regular file, the caller's to close; None where it is none.

        No device, FIFO or socket is opened, however quickly somebody exchanges what a name stands for: the
        file is held by a descriptor that opens nothing (O_PATH), looked at, and opened through that.

        Raises:
            HostError: the leaf that the kernel's answer means.
        """
        try:
            held = os.open(self.outside(path), os.O_PATH | os.O_CLOEXEC)
            try:
                if not is_regular(os.fstat(held).st_mode):
                    return None
                through = f"/proc/self/fd/{held}"
                try:
                    return os.open(through, _OPEN_FLAGS | os.O_NOATIME)
                except PermissionError:
                    return os.open(through, _OPEN_FLAGS)
            finally:
                os.close(held)
        except OSError as error:
            raise errors.host_error(error, path) from error

    def stat_known(self, path: str) -> tuple[int, tuple[int, int]] | None:
        """Type and device of what a descriptor's link in /proc leads to, told by the kernel alone.

        A descriptor that opens nothing (O_PATH) is made of such a link without asking the file system that
        the file lies on, whose server may be dead; and so is the answer.

        Returns:
            The type as in st_mode, and major and minor number; None where the kernel does not tell.

        Raises:
            HostError: the leaf that the kernel's answer means.
        """
        try:
            held = os.open(self.outside(path), os.O_PATH | os.O_CLOEXEC)
        except OSError as error:
            raise errors.host_error(error, path) from error
        try:
            return syscalls.stat_known(held)
        finally:
            os.close(held)

    def _outside_parent(self, path: str) -> str:
        _check_name(path)
        if not self._prefix:
            return path
        parent, _, name = path.rpartition("/")
        return f"{self.outside(parent or '/')}/{name}"

    def read(self, path: str, bytes_max: int = READ_BYTES_MAX, *, follow: bool = True) -> bytes:
        """The whole file.

        Raises:
            TooLargeError: it has more than `bytes_max` bytes; nothing is returned.
            HostError: any other reason.
        """
        with self.open(path, follow=follow) as fd:
            data = read_fd(fd, bytes_max + 1, path)
        if len(data) > bytes_max:
            raise errors.TooLargeError(path, f"more than {bytes_max} bytes")
        return data

    def read_text(self, path: str) -> str:
        """A small text file; bytes that are not UTF-8 come as their escape."""
        return canonical.escape_bytes(self.read(path))

    def stat(self, path: str, *, follow: bool = True) -> os.stat_result:
        """stat(2) or lstat(2) of a path. Raises HostError."""
        try:
            if follow:
                return os.stat(self.outside(path))
            return os.lstat(self._outside_parent(path))
        except OSError as error:
            raise errors.host_error(error, path) from error

    def exists(self, path: str) -> bool:
        """Whether something is there that we can see."""
        try:
            self.stat(path)
        except errors.HostError:
            return False
        return True

    def read_link(self, path: str) -> str:
        """The target of a link as written. Raises HostError."""
        try:
            return os.readlink(self._outside_parent(path))
        except OSError as error:
            raise errors.host_error(error, path) from error

    def list_dir(self, path: str) -> list[str]:
        """Names in a directory, sorted by their bytes: no file system's order shows. Raises HostError."""
        try:
            return sorted(os.listdir(self.outside(path)), key=os.fsencode)
        except OSError as error:
            raise errors.host_error(error, path) from error

    def list_directories(self, path: str) -> list[str]:
        """Directories in a directory, links not among them, sorted by bytes. Raises HostError."""
        try:
            with os.scandir(self.outside(path)) as found:
                names = [entry.name for entry in found if entry.is_dir(follow_symlinks=False)]
        except OSError as error:
            raise errors.host_error(error, path) from error
        return sorted(names, key=os.fsencode)

    # -- bytes
    # ---------------------------------------------------------------------------------------------------

    def parse(
        self, function: Function[T], files: Sequence[Opened], *args: object
    ) -> list[T | errors.HostError]:
        """Have a function read open files where hostile bytes can do no harm; see `agent.guard.parsing`."""
        return self._parser.parse(function, files, *args)

    def close(self) -> None:
        """End what reads files here, and wait for it, so that its CPU time is counted with this process's."""
        self._parser.close()

    # -- processes
    # -----------------------------------------------------------------------------------------------

    @property
    def own_pid(self) -> int:
        """This process in the host's /proc; 0 where the host is a directory."""
        return 0 if self._prefix else os.getpid()

    @property
    def own_pids(self) -> frozenset[int]:
        """Processes of this very run of the agent in the host's /proc; none where the host is a directory."""
        return frozenset() if self._prefix else frozenset((os.getpid(), *self._relatives, *self._parser.pids))

    def note_relative(self, pid: int) -> None:
        """Another process belongs to this run: a child that looks for us, or for whom we look."""
        self._relatives.add(pid)

    def pids(self) -> list[int]:
        """Process numbers in /proc, ascending. Raises HostError when /proc itself cannot be listed."""
        return sorted(int(name) for name in self.list_dir("/proc") if _is_number(name))

    # -- people and machine
    # --------------------------------------------------------------------------------------

    @functools.cached_property
    def _users(self) -> dict[int, tuple[str, str]]:
        # The files are read, not NSS asked: a directory service that hangs must not hang the agent.
        found: dict[int, tuple[str, str]] = {}
        for fields in self._colon_file("/etc/passwd", 7):
            if _is_number(fields[2]):
                found.setdefault(int(fields[2]), (fields[0], fields[5]))
        return found

    @functools.cached_property
    def _groups(self) -> dict[int, str]:
        found: dict[int, str] = {}
        for fields in self._colon_file("/etc/group", 3):
            if _is_number(fields[2]):
                found.setdefault(int(fields[2]), fields[0])
        return found

    def _colon_file(self, path: str, fields_min: int) -> Iterator[list[str]]:
        try:
            page = os.fsdecode(self.read(path))
        except errors.HostError:
            return
        # splitlines() also ends lines at bytes that a name may hold.
        for line in page.split("\n"):
            fields = line.split(":")
            if len(fields) >= fields_min and "\0" not in line:
                yield fields

    def users(self) -> dict[int, str]:
        """Login names by uid, from /etc/passwd, in the document's form."""
        return {uid: text(name) for uid, (name, _) in self._users.items()}

    def user(self, uid: int) -> str:
        """Login name of a uid from /etc/passwd in the document's form, else `uid:N`."""
        return text(self._users[uid][0]) if uid in self._users else f"uid:{uid}"

    def group(self, gid: int) -> str:
        """Group name of a gid from /etc/group in the document's form, else `gid:N`."""
        return text(self._groups[gid]) if gid in self._groups else f"gid:{gid}"

    def homes(self) -> dict[str, int]:
        """Home directories, as paths inside the agent, and whose they are, from /etc/passwd."""
        return {home: uid for uid, (_, home) in self._users.items() if home.startswith("/")}

    def hostname(self) -> str:
        """uname nodename, read where a container's or fixture's own stands."""
        return canonical.escape_bytes(self.read("/proc/sys/kernel/hostname", _NAME_BYTES_MAX)).strip()

    # -- clock
    # ---------------------------------------------------------------------------------------------------

    def now_ns(self) -> int:
        """Wall clock in nanoseconds since 1970 UTC."""
        return time.time_ns()

    # -- tools
    # ---------------------------------------------------------------------------------------------------

    def run_tool(
        self, argv: Sequence[str], *, timeout_s: float = 20, bytes_max: int = READ_BYTES_MAX
    ) -> bytes:
        """Standard output of an external program.

        It gets an absolute path, a clean environment, no shell, no input and a time limit.

        Raises:
            ToolError: it is missing, failed, took too long or said too much. Its words are not passed on:
            they may
                hold secrets.
        """
        if self._prefix:
            raise errors.ToolError(f"{argv[0]} is not run for a host that is a directory ({self.root})")
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
        try:
            done = subprocess.run(
                list(argv),
                check=False,
                capture_output=True,
                stdin=subprocess.DEVNULL,
                env=environment,
                timeout=timeout_s,
                cwd="/",
            )
        except OSError as error:
            raise errors.ToolError(f"cannot run {argv[0]}: {error.strerror}") from error
        except subprocess.TimeoutExpired as error:
            raise errors.ToolError(f"{argv[0]} took more than {timeout_s:g} s and was stopped") from error
        if done.returncode:
            raise errors.ToolError(f"{argv[0]} exited {done.returncode}")
        if len(done.stdout) > bytes_max:
            raise errors.ToolError(f"{argv[0]} printed more than {bytes_max} bytes")
        return done.stdout


def _check_name(path: str) -> None:
    """Configuration files of a host may hold any bytes; the kernel is not asked for what it never takes."""
    if "\0" in path or len(path) >= PATH_BYTES_MAX:
        raise errors.UnreadableError(path[:80], "no file can be called so")


def _is_number(digits: str) -> bool:
    """Whether it is one as the kernel writes them: ASCII digits, and no more than 32 bits have."""
    return digits.isascii() and digits.isdigit() and len(digits) <= 10


def is_regular(mode: int) -> bool:
    """Whether a st_mode is that of a regular file."""
    return stat.S_ISREG(mode)


def errno_name(number: int) -> str:
    """`ENOENT` for 2; the number itself where this system has no name for it."""
    return errno.errorcode.get(number, str(number))
