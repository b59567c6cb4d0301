# SPDX-License-Identifier: Apache-2.0
"""Does the kernel half see every library that a process loads, however it comes, and once?

Programs see the whole machine, so each test looks for its own files alone.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from agent.host import Host
from agent.kernel.monitor import Window
from agent.kernel.probes.lib_load import LibLoad
from agent.model import canonical
from agent.printing.loaded import Loaded
from tests.bpf.kinds import Compile, Doer, Watch

pytestmark = [pytest.mark.root, pytest.mark.kernel]

# A prime, so that no multiple of it is right by accident.
TIMES = 23


@pytest.fixture
def library(tmp_path: Path, compiled: Compile) -> Path:
    """A library of our own, so that nobody else loads it."""
    source = tmp_path / "planted.c"
    source.write_text("int planted(void) { return 0; }\n")
    return compiled(tmp_path / "libplanted.so.1", ["-shared", "-fPIC", str(source)])


@pytest.fixture
def linked(tmp_path: Path, library: Path, compiled: Compile) -> Path:
    """A program that is linked with it."""
    source = tmp_path / "linked.c"
    source.write_text("int planted(void);\nint main(void) { return planted(); }\n")
    return compiled(tmp_path / "linked", [str(source), str(library), f"-Wl,-rpath,{tmp_path}"])


def libraries(words: list[str]) -> set[str]:
    """What ldd(1) says that a program loads, without its interpreter, which the kernel maps."""
    said = subprocess.run(["ldd", *words], capture_output=True, text=True, check=True).stdout
    return {os.path.realpath(path) for path in re.findall(r"=> (/\S+)", said)}


def test_a_linked_library_is_one_event_for_each_process(watch: Watch, linked: Path, library: Path) -> None:
    """The dynamic linker maps it when the program starts; no program calls dlopen for that."""

    # Given a program that is linked with a library
    # When it is started 23 times
    def action(_: Window) -> None:
        for _time in range(TIMES):
            subprocess.run([linked], check=True)

    seen = watch(action, "lib_load")
    # Then there are 23 events, each true, of 23 processes that had ended before anybody looked
    events = seen.loads(library)
    assert len(events) == len({event.pid for event in events}) == TIMES
    assert {event.exe for event in events} == {str(linked)}
    assert {event.process for event in events} == {"linked"}
    assert {(event.library_name, event.deleted, event.uid) for event in events} == {("libplanted", False, 0)}
    assert {event.identity.inode for event in events} == {library.stat().st_ino}
    assert {event.identity.changed_ns for event in events} == {library.stat().st_ctime_ns}
    # And nothing was lost on the way
    stats = seen.stats["lib_load"]
    assert (stats.unseen, stats.delivered) == (0, stats.submitted)


def test_libraries_come_in_by_other_doors_too(watch: Watch, doer: Doer, library: Path) -> None:
    """By dlopen, by LD_PRELOAD with an absolute and a relative path, and by a copy of another name."""
    # Given a copy, a hard link and a symbolic link of a library
    copy, hard, soft = (library.with_name(name) for name in ("innocent.bin", "hard.so", "soft.so"))
    shutil.copy(library, copy)
    hard.hardlink_to(library)
    soft.symlink_to(library)

    # When they are loaded in every way, 23 times each
    def action(_: Window) -> None:
        for _time in range(TIMES):
            doer("dlopen", copy, "1")
            doer("exit", "0", env={"LD_PRELOAD": str(hard)})
            doer("dlopen", soft, "1")

    seen = watch(action, "lib_load")
    # Then each load is there by the real path of its file
    assert len(seen.loads(copy)) == TIMES
    assert len(seen.loads(hard)) == TIMES
    assert len(seen.loads(library)) == TIMES
    assert seen.loads(soft) == []
    assert {event.library_name for event in seen.loads(copy)} == {"innocent"}


def test_a_relative_preload_has_its_whole_path(watch: Watch, doer_path: Path, library: Path) -> None:
    """The name that it was asked for by says nothing once the process is gone."""
    # Given a relative name
    # When it is preloaded
    environment = {**os.environ, "LD_PRELOAD": f"./{library.name}"}
    seen = watch(
        lambda _: subprocess.run([doer_path, "exit", "0"], env=environment, cwd=library.parent, check=True),
        "lib_load",
    )
    # Then the path is absolute
    assert len(seen.loads(library)) == 1


def test_a_deleted_library_is_marked(watch: Watch, doer_path: Path, library: Path) -> None:
    """Code that left no file behind is what one wants to hear of."""
    # Given a library that has no name any more, and one that never had one
    fd = os.open(library, os.O_RDONLY)
    library.unlink()
    memory = os.memfd_create("ghost", 0)
    os.sendfile(memory, fd, 0, 1 << 20)

    # When they are loaded
    def action(_: Window) -> None:
        for _time in range(TIMES):
            subprocess.run([doer_path, "dlopen", f"/proc/self/fd/{fd}", "1"], pass_fds=[fd], check=True)
        subprocess.run([doer_path, "dlopen", f"/proc/self/fd/{memory}", "1"], pass_fds=[memory], check=True)

    try:
        seen = watch(action, "lib_load")
    finally:
        os.close(fd)
        os.close(memory)
    # Then both are there, with the mark and without it in the path
    assert [event.deleted for event in seen.loads(library)] == [True] * TIMES
    assert [event.deleted for event in seen.loads("/memfd:ghost")] == [True]


def test_a_file_mapped_often_is_told_once(watch: Watch, doer: Doer, library: Path) -> None:
    """The dynamic linker maps one library in several pieces; a plug-in is opened and closed."""

    # Given a process that maps a file as code 23 times, and one that opens a library so often
    def action(_: Window) -> None:
        doer("map", library, str(TIMES))
        doer("dlopen", library, str(TIMES))

    # When both are watched
    seen = watch(action, "lib_load")
    # Then there is one event for each process, and the others are in the account
    assert len(seen.loads(library)) == 2
    assert seen.stats["lib_load"].repeated >= 2 * (TIMES - 1)


def test_six_threads_that_map_a_file_at_once_are_one_load(watch: Watch, doer: Doer, library: Path) -> None:
    """They run on several CPUs and may all find that nobody was first."""

    # Given six threads that wait for each other
    # When they map one file, 23 times over
    def action(_: Window) -> None:
        for _time in range(TIMES):
            doer("race", library)

    seen = watch(action, "lib_load")
    # Then each process has one event
    assert len(seen.loads(library)) == TIMES


def test_a_process_that_becomes_another_program_loads_anew(watch: Watch, linked: Path, library: Path) -> None:
    """It has the same number and start, and nothing of what it had mapped."""
    # Given a program that becomes itself once more, in one process
    script = f"LD_PRELOAD={library} exec {linked}"
    # When it runs
    seen = watch(
        lambda _: subprocess.run(
            ["sh", "-c", script], env={**os.environ, "LD_PRELOAD": str(library)}, check=True
        ),
        "lib_load",
    )
    # Then each program of the process loaded the library
    events = seen.loads(library)
    assert len({event.pid for event in events}) == 1
    assert [Path(event.exe or "").name for event in events] == [Path("/bin/sh").resolve().name, "linked"]


def test_what_is_not_code_is_no_load(watch: Watch, doer: Doer, library: Path, compiled: Compile) -> None:
    """Reading a library, as every scanner does, is not using it; and a static program has none."""
    # Given a static program
    source = library.with_name("static.c")
    source.write_text("int main(void) { return 0; }\n")
    static = compiled(library.with_name("static"), ["-static", str(source)])

    # When a library is mapped to be read, and the program runs
    def action(_: Window) -> None:
        doer("read", library)
        library.read_bytes()
        subprocess.run([static], check=True)

    seen = watch(action, "lib_load")
    # Then there is nothing
    assert seen.loads(library) == []
    assert [event for event in seen.events if event.exe == str(static)] == []


def test_what_is_of_no_interest_stays_in_the_kernel(watch: Watch, doer: Doer, library: Path) -> None:
    """Else every start of every program would cost an event for each of its libraries."""

    # Given a library that the kernel half was told to leave out
    def action(window: Window) -> None:
        doer("map", library, "1")
        (first,) = [
            event for event in _now(window) if isinstance(event, LibLoad) and event.library == str(library)
        ]
        window.disregard(first.identity)
        for _time in range(TIMES):
            doer("map", library, "1")
        # When it is written over in its place, which keeps its inode and its name
        with library.open("r+b") as file:
            file.write(library.read_bytes())
        doer("map", library, "1")

    seen = watch(action, "lib_load")
    # Then it was left out as long as it was that file, and is reported now that it is another one
    assert len(seen.loads(library)) == 1
    assert seen.stats["lib_load"].filtered >= TIMES


def _now(window: Window) -> list[object]:
    """What is in the rings, without ending the window."""
    return [event for source in window._sources for _, event in source.drain(0)[0]]


def test_names_come_as_they_are(watch: Watch, doer: Doer, library: Path) -> None:
    """Also those that hold no text, or a line break."""
    # Given libraries with such names
    names = [b"invalid\xff\xfe.so", b"line\nbreak.so", b"back\\slash.so", "schlüssel.so".encode(), b"x" * 255]
    paths = [os.fsencode(library.parent) + b"/" + name for name in names]
    for path in paths:
        shutil.copy(library, os.fsdecode(path))
    # When they are loaded
    seen = watch(lambda _: [doer("dlopen", path, "1") for path in paths], "lib_load")
    # Then each event has its name's reversible form
    for path in paths:
        assert len(seen.loads(canonical.escape_bytes(path))) == 1, path


def test_a_path_that_is_too_long_leaves_the_name(watch: Watch, doer: Doer, library: Path) -> None:
    """What cannot be told whole is not told as something else."""
    # Given a library deeper than the kernel half walks
    deep = library.parent
    for _level in range(50):
        deep /= "d" * 4
    deep.mkdir(parents=True)
    shutil.copy(library, deep / "libdeep.so")
    # When it is loaded
    seen = watch(lambda _: doer("dlopen", deep / "libdeep.so", "1"), "lib_load")
    # Then its bare name is there
    assert len(seen.loads("libdeep.so")) == 1


def test_a_full_ring_is_counted_not_hidden(watch: Watch, linked: Path, library: Path) -> None:
    """Silence is not health: what could not be reported must be said, and exactly."""

    # Given a ring of one page, which holds a few events
    def action(_: Window) -> None:
        for _time in range(5 * TIMES):
            subprocess.run([linked], check=True)

    # When more is loaded than fits, and nobody reads meanwhile
    seen = watch(action, "lib_load", ring_bytes=os.sysconf("SC_PAGE_SIZE"))
    # Then what is missing is counted: of each library in each process, at least one
    stats = seen.stats["lib_load"]
    assert 0 < len(seen.loads(library)) < 5 * TIMES
    assert len(seen.loads(library)) + stats.lost >= 5 * TIMES
    assert stats.delivered == stats.submitted == len(seen.events)


@pytest.mark.parametrize("tool", ["openssl", "curl", "ssh-keygen"])
def test_programs_load_what_ldd_says(tool: str, watch: Watch, tmp_path: Path) -> None:
    """A witness that we did not write, on programs that we did not write."""
    found = shutil.which(tool)
    if found is None or shutil.which("ldd") is None:
        pytest.skip(f"{tool} or ldd is not installed")
    # Given what the dynamic linker would load, for a copy that nobody else runs
    path = str(tmp_path / tool)
    shutil.copy(found, path)
    expected = libraries([path])
    # When the program runs
    seen = watch(
        lambda _: subprocess.run([path, "--help"], stdout=-3, stderr=-3, stdin=-3, check=False), "lib_load"
    )
    # Then it loads all of that, each once
    events = [event for event in seen.events if isinstance(event, LibLoad) and event.exe == path]
    assert expected <= {event.library for event in events}
    assert len(events) == len({event.library for event in events})


# -- which of them are libraries of cryptography


@pytest.fixture
def crypto() -> Path:
    """A library of cryptography that is on this machine."""
    said = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"libcrypto\.so\.\d\S* .*=> (/\S+)", said)
    if found is None:
        pytest.skip("no libcrypto is installed")
    return Path(os.path.realpath(found[1]))


def recognised(seen: list[LibLoad], window: Window) -> dict[str, tuple[str, str, str] | None]:
    """Family, name and how it was found, by path."""
    loaded = Loaded(Host(), window.disregard)
    found = {event.library: loaded.of(event) for event in seen}
    return {path: (one.family, one.name, one.by) if one else None for path, one in found.items()}


def test_content_tells_not_the_name(
    watch: Watch, doer: Doer, doer_path: Path, crypto: Path, tmp_path: Path
) -> None:
    """A renamed copy is a library, and notes about one are not."""
    # Given a renamed copy, and a file that is called like a library and mapped like one
    copy, notes = tmp_path / "innocent.bin", tmp_path / "libcrypto_notes.txt"
    shutil.copy(crypto, copy)
    notes.write_text("remember the milk\n" * 300)
    found: dict[str, tuple[str, str, str] | None] = {}

    def own(events: Iterable[object]) -> list[LibLoad]:
        return [one for one in events if isinstance(one, LibLoad) and one.exe == str(doer_path)]

    # When both are loaded by processes that have ended when somebody looks
    def action(window: Window) -> None:
        doer("dlopen", copy, "1")
        doer("map", notes, "1")
        found.update(recognised(own(_now(window)), window))
        for _time in range(TIMES):
            doer("map", notes, "1")
            doer("dlopen", copy, "1")

    seen = watch(action, "lib_load")
    # Then the one is what it is, by its content, and the other is nothing
    assert found[str(copy)] == ("openssl", "libcrypto", "content")
    assert found[str(notes)] is None
    # And what is nothing is not reported any more, nor is the C library
    assert len(seen.loads(copy)) == TIMES
    assert seen.loads(notes) == []
    assert {event.library for event in own(seen.events)} == {str(copy)}


def test_a_library_deleted_while_it_is_used_is_known(watch: Watch, crypto: Path, tmp_path: Path) -> None:
    """An upgrade replaces libraries under running processes."""
    # Given a process that has loaded a copy, which is deleted then
    copy = tmp_path / "libgone.so"
    shutil.copy(crypto, copy)
    found: dict[str, tuple[str, str, str] | None] = {}

    def action(window: Window) -> None:
        script = "import ctypes, sys; ctypes.CDLL(sys.argv[1]); print(1, flush=True); sys.stdin.read()"
        command = ["python3", "-c", script, str(copy)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            copy.unlink()
            # When somebody looks
            found.update(recognised([event for event in _now(window) if isinstance(event, LibLoad)], window))
            process.communicate()

    watch(action, "lib_load")
    # Then its content is still read
    assert found[str(copy)] == ("openssl", "libcrypto", "content")


def test_of_a_process_and_a_file_that_have_gone_the_name_is_left(
    watch: Watch, doer: Doer, crypto: Path, tmp_path: Path
) -> None:
    """A guess is better than silence when it is called one."""
    # Given a copy that is deleted, and one that another file replaces, before anybody looks
    gone, replaced, unknown = (tmp_path / name for name in ("libcrypto.so.3", "libssl.so.3", "other.so"))
    for path in (gone, replaced, unknown):
        shutil.copy(crypto, path)
    found: dict[str, tuple[str, str, str] | None] = {}

    def action(window: Window) -> None:
        for path in (gone, replaced, unknown):
            doer("dlopen", path, "1")
            path.unlink()
        replaced.write_text("another file\n")
        # When somebody looks
        found.update(recognised([event for event in _now(window) if isinstance(event, LibLoad)], window))

    watch(action, "lib_load")
    # Then what the names promise is told as such, and what they do not promise is not
    assert found[str(gone)] == ("openssl", "libcrypto", "name")
    assert found[str(replaced)] == ("openssl", "libssl", "name")
    assert found[str(unknown)] is None


def test_a_library_in_another_mount_namespace_is_read_there(
    watch: Watch, crypto: Path, tmp_path: Path, doer_path: Path
) -> None:
    """A container's path says nothing on the host."""
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed")
    # Given a process with a file system of its own, where a library has a name that the host does not know
    script = (
        f"mount -t tmpfs none {tmp_path} && cp {crypto} {tmp_path}/inside.so && echo ready && "
        f"LD_PRELOAD={tmp_path}/inside.so exec sleep 30"
    )
    found: dict[str, tuple[str, str, str] | None] = {}
    seen_in: set[int] = set()

    def action(window: Window) -> None:
        with subprocess.Popen(["unshare", "--mount", "sh", "-c", script], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            loads: list[LibLoad] = []
            while not any(event.library.endswith("/inside.so") for event in loads):
                loads += [event for event in _now(window) if isinstance(event, LibLoad)]
            # When somebody looks
            found.update(recognised(loads, window))
            seen_in.update(event.mount_ns for event in loads if event.library.endswith("/inside.so"))
            process.kill()

    watch(action, "lib_load")
    # Then it is known by its content, and the event says whose path it is
    assert found[f"{tmp_path}/inside.so"] == ("openssl", "libcrypto", "content")
    assert seen_in.isdisjoint({os.stat("/proc/self/ns/mnt").st_ino})


def test_python_loads_its_libraries_when_it_needs_them(watch: Watch) -> None:
    """The module is opened by dlopen, and brings what it is linked with."""
    # Given a program that is not linked with any
    found: dict[str, tuple[str, str, str] | None] = {}

    def action(window: Window) -> None:
        # When it imports one
        subprocess.run(["python3", "-c", "import ssl"], check=True)
        found.update(recognised([event for event in _now(window) if isinstance(event, LibLoad)], window))

    watch(action, "lib_load")
    # Then both of OpenSSL's are there
    names = {one[:2] for one in found.values() if one is not None}
    assert {("openssl", "libssl"), ("openssl", "libcrypto")} <= names
