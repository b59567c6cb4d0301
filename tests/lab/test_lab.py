# SPDX-License-Identifier: Apache-2.0
"""Is a host of the lab a host: apart from the others, equal to them, reached and broken as a real one is?"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest

from tests.lab.boot import DROPPED_CAPABILITIES
from tests.lab.disk import USER
from tests.lab.errors import LabError
from tests.lab.fixtures import up_or_skip
from tests.lab.host import Host
from tests.lab.lab import INITS, Lab
from tests.lab.rundir import CHECKOUT, until
from tests.lab.spec import File, Spec

pytestmark = [pytest.mark.root, pytest.mark.lab]

NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "uts")

# One line per path: type, mode, owner, link target, path; and one line per file: digest, path.
WALK = r"""
cd / && find etc opt srv root home var/lib -printf '%y %m %u %g %l  %p\n'
find etc opt srv root home var/lib -type f -exec sha256sum {} +
"""


@pytest.fixture(scope="module", params=INITS)
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Two hosts of each init, the second one unlike a fresh one."""
    own = Spec(
        "h2",
        files={"/etc/own.conf": "text\n", "/opt/own/tool": File(b"#!/bin/sh\necho \xff\n", 0o755)},
        host_keys=("ecdsa:384",),
        sshd_config="Ciphers aes256-ctr",
    )
    with up_or_skip(Lab(["h1", own], init=request.param)) as lab:
        yield lab


def banner(host: Host) -> bytes:
    """What its sshd says first."""
    # A cable that was just plugged in may lose a first packet, which TCP sends again after a second.
    with host.lab.network(), socket.create_connection((host.address, 22), 20) as connection:
        return connection.recv(256)


def written(host: Host, top: str) -> list[str]:
    """The files below a top-level directory that are the host's own, not the base's."""
    assert host.lab.hub is not None
    upper = f"/proc/{host.lab.hub.pid}/root{host.lab.directory}/disks/{host.name}/upper"
    assert os.path.isdir(f"{upper}/{top}")
    return [f"{folder}/{name}" for folder, _, names in os.walk(f"{upper}/{top}") for name in names]


def test_hosts_have_namespaces_of_their_own(lab: Lab) -> None:
    """A scanner of one host must not see, count or kill what is another's or the machine's."""
    # Given two hosts and the machine
    pids = [os.getpid(), lab["h1"].pid, lab["h2"].pid]

    # When their namespaces are compared
    namespaces = {kind: {os.readlink(f"/proc/{pid}/ns/{kind}") for pid in pids} for kind in NAMESPACES}

    # Then no two are the same
    assert {kind: len(found) for kind, found in namespaces.items()} == dict.fromkeys(NAMESPACES, 3)


def test_a_process_is_seen_in_its_own_host_only(lab: Lab) -> None:
    """PID namespaces and /proc belong together."""
    # Given a process in one host
    sleeper = lab["h1"].popen(["sleep", "4321"])
    lab["h1"].run("until pgrep -f '^sleep 4321'; do sleep 0.02; done")

    # When both hosts are searched for it
    found = [host.run(["pgrep", "-f", "^sleep 4321"], check=False).stdout.split() for host in lab]

    # Then the first has it, by a small number of its own, and can end it
    counts = [len(pids) for pids in found]
    assert counts == [1, 0]
    assert int(found[0][0]) != sleeper.pid
    assert lab["h1"].kill("^sleep 4321") == 1
    assert sleeper.wait(10) != 0


@pytest.mark.parametrize("init", INITS)
def test_two_fresh_hosts_differ_in_their_names_alone(init: str) -> None:
    """Whatever else differed would be a false change in every test that compares two hosts."""
    # Given two fresh hosts
    with up_or_skip(Lab(["web1", "web2"], init=init)) as lab:
        # When every file that a scanner reads is compared
        first, second = (set(host.run(WALK).stdout.splitlines()) for host in lab)
        own = [file for host in lab for file in written(host, "usr")]

    # Then the machine id, the host name and the SSH host keys differ, and nothing else
    assert own == []
    assert len(first) > 1000
    different = {line.rpartition("  ")[2] for line in first ^ second}
    names = {
        "etc/hostname",
        "etc/machine-id",
        "etc/ssh/ssh_host_ed25519_key",
        "etc/ssh/ssh_host_ed25519_key.pub",
    }
    assert different - {"var/lib/dbus/machine-id"} == names


def test_what_is_the_machines_own_is_out_of_sight(lab: Lab, tmp_path: Path) -> None:
    """The checkout holds certificates and libraries that no host of a fleet has."""
    # Given files of the machine: the checkout, the interpreter's, a temporary one, the lab's key
    (tmp_path / "own").write_text("x")
    prefix = sys.prefix
    own = [str(CHECKOUT), prefix, str(tmp_path), str(lab.directory), "/.dockerenv"]

    # When a host looks for them
    found = lab["h1"].run(f"ls -d {' '.join(own)}", check=False)
    inside = lab["h1"].run("ls -A /home /opt /srv /usr/local/bin /var/log/apt", check=False).stdout.split()

    # Then there is nothing
    assert found.stdout == ""
    assert sorted(inside) == sorted(["/home:", USER, "/opt:", "/srv:", "/usr/local/bin:"])


def test_a_host_cannot_change_the_machine(lab: Lab) -> None:
    """Tests run as root on machines that people use."""
    host = lab["h1"]
    before = Path("/proc/sys/kernel/printk").read_text()

    # When a host tries the clock, a kernel setting, and ways out of the lab's network
    clock = host.run("date -s @$(date +%s)", check=False)
    setting = host.run("echo 9 > /proc/sys/kernel/printk", check=False)
    routes = lab.ctl(["ip", "-4", "route"]).stdout.splitlines()

    # Then it is refused, to what pid 1 starts as to what a test runs, and the only network is the lab's
    statuses = [host.read(f"/proc/{process}/status") for process in ("1", "self")]
    bounds = [int(status.partition("CapBnd:")[2].split()[0], 16) for status in statuses]
    for name, number in DROPPED_CAPABILITIES.items():
        assert [bound >> number & 1 for bound in bounds] == [0, 0], name
    assert "Operation not permitted" in clock.stderr
    assert "Read-only file system" in setting.stderr
    assert Path("/proc/sys/kernel/printk").read_text() == before
    assert [route.split()[0] for route in routes] == ["10.213.0.0/24"]


def test_files_arrive_with_their_bytes_and_modes(lab: Lab, tmp_path: Path) -> None:
    """Planted certificates are binary, planted tools are executable, and keys are private."""
    host = lab["h2"]
    local = tmp_path / "tool"
    local.write_bytes(os.urandom(1_000_003))
    local.chmod(0o750)

    # When files come with the Spec, are written, and are copied from the machine over one that was there
    host.write("/srv/new/key", b"\x00\xff\n", 0o600)
    host.write("/srv/new/tool", "old")
    host.put(local, "/srv/new/tool")

    # Then they are what was given
    assert host.read("/etc/own.conf") == "text\n"
    assert host.run("/opt/own/tool").stdout == "\\xff\n"
    assert host.read_bytes("/srv/new/key") == b"\x00\xff\n"
    assert host.read_bytes("/srv/new/tool") == local.read_bytes()
    assert host.run("cd /srv/new && stat -c '%a %U %n' *").stdout == "600 root key\n750 root tool\n"


def test_ssh_is_real_and_its_host_keys_are_checked(lab: Lab) -> None:
    """What a client learns about a host here must hold for hosts elsewhere."""
    # Given a client that trusts the lab's known_hosts alone
    # When it logs in, as root and as a user
    with lab["h1"].ssh() as root, lab["h2"].ssh(USER) as user, root.open_sftp() as sftp:
        names = [client.exec_command("hostname; id -un")[1].read() for client in (root, user)]
        served = sftp.stat("/etc/hostname").st_size

    # Then it is where it meant to be, by the key that the host's Spec asked for
    assert names == [b"h1\nroot\n", f"h2\n{USER}\n".encode()]
    assert served == len("h1\n")
    known = {line.split(",")[0]: line.split()[1] for line in lab.known_hosts.read_text().splitlines()}
    assert known == {"h1": "ssh-ed25519", "h2": "ecdsa-sha2-nistp384"}


def test_a_spec_decides_what_sshd_offers(lab: Lab) -> None:
    """Hosts of one lab differ in their cryptography when a test wants it."""
    # Given a host with one cipher only, and a client without that
    argv = ["ssh", "-i", str(lab.key), "-o", f"UserKnownHostsFile={lab.known_hosts}", "-o", "BatchMode=yes"]
    offer = ["-c", "chacha20-poly1305@openssh.com", "root@h", "true"]

    # When it connects to that host and to one as the distribution made it
    done = [lab.ctl([*argv, "-o", f"HostName={host.address}", *offer], check=False) for host in lab]

    # Then only the latter lets it in
    assert done[0].returncode == 0
    assert "no matching cipher" in done[1].stderr


def test_a_command_that_fails_or_hangs_is_an_error_that_names_it(lab: Lab) -> None:
    """A test must stop where the cause is, and leave no process behind."""
    host = lab["h1"]
    with pytest.raises(LabError, match=r"h1: 'echo no >&2; exit 3' exited with 3: no"):
        host.run("echo no >&2; exit 3")
    assert host.run("exit 3", check=False).returncode == 3
    assert host.run(["cat"], feed="a\nb").stdout == "a\nb"
    with pytest.raises(LabError, match=r"did not end within 0\.3 s"):
        host.run(["sleep", "4322"], timeout_s=0.3)
    assert host.run("while pgrep -f '^sleep 4322'; do sleep 0.02; done").returncode == 0


def test_a_started_command_dies_with_its_handle(lab: Lab) -> None:
    """Servers are started in hosts and stopped again by tests that know only the handle."""
    # Given a command that runs
    host = lab["h1"]
    process = host.popen(["sleep", "4323"])
    host.run("until pgrep -f '^sleep 4323'; do sleep 0.02; done")

    # When its handle is terminated
    process.terminate()
    process.wait(10)

    # Then the command is gone
    until(lambda: host.kill("^sleep 4323", "CONT") == 0, 10, "the command outlived its handle")


def test_a_pulled_cable_and_a_hung_host_are_silent(lab: Lab) -> None:
    """They look alike from afar, but for a hung host the connection is still accepted."""
    host = lab["h1"]
    assert banner(host).startswith(b"SSH-")

    host.link_down()
    with lab.network(), pytest.raises(TimeoutError):
        socket.create_connection((host.address, 22), 1)
    host.link_up()
    assert banner(host).startswith(b"SSH-")

    host.freeze()
    with lab.network(), socket.create_connection((host.address, 22), 5) as connection:
        connection.settimeout(1)
        with pytest.raises(TimeoutError):
            connection.recv(256)
    host.thaw()
    assert banner(host).startswith(b"SSH-")


def test_a_crashed_host_says_no_farewell_and_keeps_its_disk_and_keys(lab: Lab) -> None:
    """After a power failure peers wait, and what was written is there."""
    host = lab["h1"]
    host.write("/var/lib/kept", "yes")
    host.write("/run/lost", "yes")
    before = host.read("/proc/sys/kernel/random/boot_id"), host.read("/etc/machine-id")

    # Given a connection to a frozen host, the hardest to kill
    host.freeze()
    with lab.network(), socket.create_connection((host.address, 22), 5) as connection:
        # When the power fails
        pids = host.pids()
        host.crash()

        # Then the peer hears nothing, and no process is left
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connection.recv(256)
    assert len(pids) > 1
    assert host.pids() == []
    with pytest.raises(LabError, match="h1 is not running; boot"):
        host.run("true")

    # And booted again it is the same host
    host.boot()
    assert host.read("/var/lib/kept") == "yes"
    assert host.run("ls /run/lost", check=False).returncode != 0
    assert host.read("/etc/machine-id") == before[1]
    with host.ssh() as client:
        assert client.exec_command("hostname")[1].read() == b"h1\n"


def test_a_host_that_is_not_known_is_refused() -> None:
    """The client is strict: a test that passes has met the host it meant."""
    # Given a host whose key was replaced
    with up_or_skip(Lab(1)) as lab:
        key = "/etc/ssh/ssh_host_ed25519_key"
        lab["h1"].run(f"rm {key}* && ssh-keygen -q -t ed25519 -N '' -f {key}")
        lab["h1"].reboot()

        # When the client connects, knowing the former key and then none, then it refuses
        with pytest.raises(paramiko.BadHostKeyException), lab["h1"].ssh():
            pytest.fail("it let an impostor in")
        lab.known_hosts.write_text("")
        with pytest.raises(paramiko.SSHException, match="not found in known_hosts"), lab["h1"].ssh():
            pytest.fail("it let a stranger in")


def test_the_controller_serves_hosts(lab: Lab, tmp_path: Path) -> None:
    """Our collector listens there."""
    # Given a server of the machine in the lab's network
    (tmp_path / "page").write_text("served")
    server = lab.ctl_popen(
        [
            sys.executable,
            "-u",
            "-m",
            "http.server",
            "--bind",
            lab.address,
            "--directory",
            str(tmp_path),
            "8000",
        ],
        stdout=subprocess.PIPE,
    )
    assert server.stdout is not None
    assert server.stdout.readline().startswith(b"Serving")

    # When a host asks it, by name
    request = "exec 3<>/dev/tcp/controller/8000; printf 'GET /page HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3"
    answer = lab["h1"].run(["bash", "-c", request]).stdout

    # Then it is served, and the machine's own network has not heard of that address
    assert answer.endswith("\r\n\r\nserved")
    addresses = subprocess.run(["ip", "-4", "address"], capture_output=True, text=True, check=True).stdout
    assert lab.address not in addresses
    server.terminate()


def test_the_kernels_types_and_tracing_are_there_for_programs(lab: Lab) -> None:
    """Tests of the kernel half run in hosts."""
    # Given what this machine has
    types = Path("/sys/kernel/btf/vmlinux")
    known = Path("/proc/filesystems").read_text().split()
    if not types.exists() or "tracefs" not in known or "bpf" not in known:
        pytest.skip("this kernel has no BTF, no tracefs or no bpf file system")

    # When a host reads it
    host = lab["h1"]
    kinds = host.run("stat -f -c %T /sys/kernel/tracing /sys/fs/bpf").stdout.split()

    # Then it is the same
    assert kinds == ["tracefs", "bpf_fs"]
    assert host.read_bytes("/sys/kernel/btf/vmlinux") == types.read_bytes()
    assert "sched" in host.run("ls /sys/kernel/tracing/events").stdout.split()
