# SPDX-License-Identifier: Apache-2.0
"""Does a lab go without a trace, however it ends, and does the machine say why it cannot hold one?"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.lab import rundir
from tests.lab.errors import LabError
from tests.lab.fixtures import up_or_skip
from tests.lab.lab import INITS, Lab
from tests.lab.spec import Spec

pytestmark = [pytest.mark.root, pytest.mark.lab]

PROGRAM = str(rundir.CHECKOUT / "tests/lab/lab.py")

# A process that begins a lab and would hold it for an hour.
OWNER = """
import sys, time
from tests.lab.lab import Lab
Lab(2, name=sys.argv[1], init=sys.argv[2]).up()
print("up", flush=True)
time.sleep(3600)
"""


@pytest.fixture(autouse=True)
def labs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run directory of this test's own, so that it meets nobody else's labs."""
    directory = tmp_path / "labs"
    monkeypatch.setenv("LAB_DIR", str(directory))
    return directory


def program(*arguments: str, prefix: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """Run the command line; where the machine refuses a lab unasked, the test is skipped with its reason."""
    argv = [*prefix, sys.executable, PROGRAM, *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode == 3 and not prefix:
        pytest.skip(done.stderr.strip())
    return done


def machine() -> dict[str, list[str]]:
    """What a lab could leave in the machine's own namespaces."""
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    return {
        "mounts": Path("/proc/self/mounts").read_text().splitlines(),
        "links": [line.split()[1] for line in links.splitlines()],
    }


def traces(labs: Path) -> list[str]:
    """What is left of labs below the run directory."""
    prefix = rundir.cgroup_of(labs / "x").name.removesuffix("x")
    return [*(str(path) for path in labs.glob("*")), *map(str, rundir.cgroup_root().glob(f"{prefix}*"))]


def begin_and_kill_owner(name: str, init: str) -> Lab:
    """A lab whose owner was killed when it was up."""
    if os.geteuid() == 0:
        with up_or_skip(Lab(1, name=name)):
            pass
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, name, init], stdout=subprocess.PIPE, cwd=rundir.CHECKOUT
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == b"up\n"
    owner.send_signal(signal.SIGKILL)
    owner.communicate()
    return Lab.load(name)


@pytest.mark.parametrize("init", INITS)
def test_a_lab_goes_without_a_trace(init: str, labs: Path) -> None:
    """Labs come up hundreds of times on one machine."""
    # Given a machine, and a lab with everything in it that could cling
    before = machine()
    with up_or_skip(Lab(2, init=init)) as lab:
        lab["h1"].popen("trap '' TERM INT HUP; while :; do sleep 1; done")
        lab["h1"].run("setsid sleep 5433 >/dev/null 2>&1 & mount -t tmpfs none /mnt")
        lab.ctl_popen(["sleep", "5433"])
        lab["h2"].freeze()
        pids = [pid for host in lab for pid in host.pids()]
        assert len(traces(labs)) == 2

    # When it has ended, and is ended again
    lab.down()

    # Then nothing of it is left, and the machine is as it was
    assert len(pids) > 5
    assert traces(labs) == []
    assert machine() == before


@pytest.mark.parametrize("init", INITS)
def test_a_lab_whose_owner_was_killed_is_ended_by_name(init: str, labs: Path) -> None:
    """An interrupted test run must not cost the next person a reboot."""
    # Given a lab whose owner was killed
    before = machine()
    lab = begin_and_kill_owner("orphan", init)
    assert [host.is_running() for host in lab] == [True, True]
    assert len(traces(labs)) == 2

    # When it is ended from elsewhere
    done = program("down", "--name", "orphan")

    # Then nothing is left, and to end it again is no error
    assert (done.returncode, done.stderr) == (0, "")
    assert [host.is_running() for host in lab] == [False, False]
    assert traces(labs) == []
    assert machine() == before
    assert program("down", "--name", "orphan").returncode == 0


def test_the_next_lab_ends_one_whose_owner_was_killed(labs: Path) -> None:
    """Nobody has to know the name of what was left."""
    # Given a lab whose owner was killed
    orphan = begin_and_kill_owner("orphan", "sh")

    # When another comes up
    with Lab(1, name="next") as lab:
        # Then the orphan is gone and the other is there
        assert not orphan["h1"].is_running()
        assert lab["h1"].is_running()
        assert len(traces(labs)) == 2
    assert traces(labs) == []


def test_a_lab_whose_directory_was_deleted_gives_way(labs: Path) -> None:
    """People and programs clean up below temporary directories; the name must not be lost to them."""
    # Given a lab whose owner was killed and whose directory was deleted
    orphan = begin_and_kill_owner("orphan", "sh")
    shutil.rmtree(labs)
    assert orphan["h1"].is_running()

    # When the next of its name comes up, then it takes its place
    with Lab(1, name="orphan") as lab:
        assert not orphan["h1"].is_running()
        assert lab["h1"].is_running()
    assert traces(labs) == []


def test_what_is_no_lab_is_never_removed(labs: Path) -> None:
    """Who sets LAB_DIR to a directory of theirs must not lose what is in it."""
    # Given a run directory with somebody's files
    with up_or_skip(Lab(1)):
        pass
    for name in ("taken", "other", ".git"):
        (labs / name).mkdir()
        (labs / name / "file").write_text("precious")
    (labs.parent / "beside").mkdir()

    # When labs come and go there, by these names too
    with Lab(1):
        pass
    with pytest.raises(LabError, match="taken is there and is no lab"):
        Lab(1, name="taken").up()
    downs = [program("down", "--name", name).returncode for name in ("taken", "other", "../beside", "..")]

    # Then nothing is lost
    assert downs == [0, 0, 1, 1]
    assert sorted(path.name for path in labs.iterdir()) == [".git", "other", "taken"]
    assert [(labs / name / "file").read_text() for name in ("taken", "other", ".git")] == ["precious"] * 3
    assert (labs.parent / "beside").exists()


def test_labs_that_are_up_at_once_know_nothing_of_each_other(labs: Path) -> None:
    """They have the same host names and addresses, so anything shared would show."""
    # Given two labs
    with up_or_skip(Lab(1, name="one")) as one, up_or_skip(Lab(1, name="two")) as two:
        # When the same is done to the host of each
        for lab in (one, two):
            lab["h1"].write("/srv/lab", lab.name)
        one["h1"].link_down()

        # Then each has its own disk, network and keys, and a third one cannot take the name
        assert [lab["h1"].read("/srv/lab") for lab in (one, two)] == ["one", "two"]
        assert one["h1"].address == two["h1"].address
        assert one.known_hosts.read_text() != two.known_hosts.read_text()
        with two["h1"].ssh() as client:
            assert client.exec_command("cat /srv/lab")[1].read() == b"two"
        with pytest.raises(LabError, match=f"'two' belongs to process {os.getpid()}; choose another name"):
            Lab(1, name="two").up()
    assert traces(labs) == []


@pytest.mark.parametrize("init", INITS)
def test_a_host_that_does_not_come_up_leaves_nothing(init: str, labs: Path) -> None:
    """Half a lab is no lab, and the reason names the host."""
    # Given a host whose sshd cannot start
    with up_or_skip(Lab(1)):
        pass
    lab = Lab([Spec("h1", sshd_config="NoSuchOption yes")], init=init, timeout_s=2)

    # When the lab comes up, then it does not, says which host and why, and is gone
    with pytest.raises(LabError, match=r"(?s)h1: no ssh on 10\.213\.0\.11 in time.*NoSuchOption"):
        lab.up()
    assert traces(labs) == []


def test_a_host_that_shuts_itself_down_can_be_booted() -> None:
    """Ansible reboots hosts; a pid that has passed to another process must not be entered."""
    # Given a host that powers itself off
    with up_or_skip(Lab(1, init="systemd")) as lab:
        host = lab["h1"]
        host.run("systemctl poweroff --force --force", check=False)
        rundir.until(lambda: not host.is_running(), 20, "it did not power off")

        # When it is booted, then it runs
        with pytest.raises(LabError, match="not running"):
            host.run("true")
        host.boot()
        with pytest.raises(LabError, match="h1 is running; reboot"):
            host.boot()
        assert host.run("systemctl is-system-running").stdout == "running\n"


def test_the_inotify_limit_is_raised_while_hosts_need_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each systemd takes of a limit that all hosts and the machine share."""
    # Given the machine's limit, as a file that no other lab changes
    limit = tmp_path / "limit"
    limit.write_text("128\n")
    monkeypatch.setattr(rundir, "INOTIFY_LIMIT", limit)

    # When labs come and go, then it follows
    with up_or_skip(Lab(3, init="systemd")), up_or_skip(Lab(1, init="systemd")) as second:
        assert int(limit.read_text()) == 128 + 4 * rundir.INOTIFY_PER_SYSTEMD
        second.down()
        assert int(limit.read_text()) == 128 + 3 * rundir.INOTIFY_PER_SYSTEMD
    assert int(limit.read_text()) == 128


def test_the_command_line_keeps_a_lab_between_commands(labs: Path) -> None:
    """Demonstrations and Ansible are driven from a shell."""
    # When a lab is begun, used, and ended by one command each
    up = program("up", "2", "--host", "collector", "--init", "systemd", "--name", "demo")
    listed = program("list").stdout.splitlines()
    inside = program("exec", "--name", "demo", "h2", "--", "sh", "-c", "hostname; exit 7")
    outside = program("ctl", "--name", "demo", "--", "ip", "-4", "-o", "address", "show", "br0")
    inventory = program("inventory", "--name", "demo").stdout
    wrong = program("exec", "--name", "demo", "h9", "--", "true")
    down = program("down", "--name", "demo")

    # Then each did its part and exited with what it says it does
    assert (up.returncode, up.stderr.startswith("3 hosts up in ")) == (0, True)
    assert listed == [
        f"demo\t{name}\t10.213.0.{number}\tsystemd\trunning"
        for name, number in (("h1", 11), ("h2", 12), ("collector", 13))
    ]
    assert (inside.returncode, inside.stdout) == (7, "h2\n")
    assert "10.213.0.1/24" in outside.stdout
    assert "    collector: {ansible_host: 10.213.0.13}\n" in inventory
    assert (wrong.returncode, wrong.stderr) == (
        1,
        "lab.py: no host 'h9' in lab demo; there are h1, h2, collector\n",
    )
    assert (down.returncode, traces(labs)) == (0, [])
    assert (
        program("exec", "--name", "demo", "h1", "--", "true").stderr == "lab.py: no lab named 'demo' is up\n"
    )
    assert program("up").returncode == 2
    assert "examples:" in program("--help").stdout


@pytest.mark.parametrize("init", INITS)
def test_a_lab_lives_where_version_2_alone_is_mounted(init: str, labs: Path) -> None:
    """Most machines have the version 2 hierarchy at /sys/fs/cgroup, not beside version 1."""
    with up_or_skip(Lab(1)):
        pass
    # Given a shell that sees the machine's control groups as such a machine has them
    mounts = "umount --recursive --lazy /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup"
    lab = f"{sys.executable} {PROGRAM}"
    group = f"/sys/fs/cgroup/{rundir.cgroup_of(labs / 'alone').name}"
    use = f"{lab} exec --name alone h1 -- hostname && ls -d {group}"
    steps = f"{lab} up 1 --init {init} --name alone && {use}; {lab} down --name alone"

    # When a lab comes and goes there
    argv = ["unshare", "--mount", "--propagation=private", "sh", "-c", f"{mounts} && {steps}"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)

    # Then it does as elsewhere
    assert done.stdout.splitlines() == ["h1", group]
    assert traces(labs) == []


@pytest.mark.parametrize(
    ("prefix", "reason"),
    [
        (
            ["setpriv", "--bounding-set=-sys_admin"],
            "this machine gives no namespaces: .*Operation not permitted",
        ),
        (["setpriv", "--bounding-set=-net_admin"], "this machine has no bridge: .*Operation not permitted"),
        (
            ["unshare", "--mount", "sh", "-c", 'mount -o remount,bind,ro "$0" && exec "$@"', "CGROUP"],
            "this machine lets no control group be made: .*Read-only file system",
        ),
    ],
    ids=["no namespaces", "no network", "no control groups"],
)
def test_a_machine_that_refuses_is_quoted(prefix: list[str], reason: str, labs: Path) -> None:
    """Tests that need a lab are skipped with these words, so they must be the kernel's."""
    # Given a process that may do less than root
    with up_or_skip(Lab(1)):
        pass
    limited = [str(rundir.cgroup_root()) if word == "CGROUP" else word for word in prefix]

    # When it begins a lab
    done = program("up", "1", prefix=limited)

    # Then it is told what was refused, and nothing is left
    assert done.returncode == 3
    assert re.match(f"lab.py: {reason}", done.stderr)
    assert traces(labs) == []


def test_who_is_not_root_is_told_so(labs: Path) -> None:
    """The most common reason, and the cheapest to ask for."""
    # Given a process that gave up root after it was started
    code = "import os, sys; from tests.lab.cli import main; os.seteuid(65534); sys.exit(main(['up', '1']))"

    # When it begins a lab
    argv = [sys.executable, "-c", code]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=rundir.CHECKOUT)

    # Then it is told, before anything was made
    assert (done.returncode, done.stderr) == (
        3,
        "lab.py: a lab needs root, for namespaces, mounts and cables\n",
    )
    assert not labs.exists()
