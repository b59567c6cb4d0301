# SPDX-License-Identifier: Apache-2.0
"""How is a lab used from a terminal?"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

from tests.lab import rundir
from tests.lab.boot import REFUSED
from tests.lab.errors import LabError, LabRefusedError
from tests.lab.hub import check_root
from tests.lab.lab import INITS, Lab

EPILOG = """\
examples:
  lab.py up 3 --init systemd        three hosts h1, h2, h3 that stay until `lab.py down`
  lab.py list                       every lab and host of this machine
  lab.py exec h1 -- ps ax           a command inside a host
  lab.py ctl -- ssh root@10.213.0.11
                                    a command of this machine in the lab's network
  lab.py inventory > hosts.yml      the hosts as an Ansible inventory
  lab.py down                       end the lab; nothing of it is left

exit codes: 0 done; 1 failure; 2 usage; 3 this machine cannot hold a lab; 130 interrupted;
            exec and ctl have the exit code of the command they ran
"""


def main(argv: list[str] | None = None) -> int:
    """Do what the command line says; the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return _run(arguments)
    except LabError as error:
        sys.stderr.write(f"lab.py: {error}\n")
        return REFUSED if isinstance(error, LabRefusedError) else 1
    except KeyboardInterrupt:
        return 130


def _run(arguments: argparse.Namespace) -> int:
    check_root()
    match arguments.command:
        case "up":
            begin = time.monotonic()
            lab = Lab(
                [f"h{number}" for number in range(1, arguments.hosts + 1)] + arguments.host,
                name=arguments.name,
                init=arguments.init,
                base=arguments.base,
                disk=arguments.disk,
            ).up(kept=True)
            sys.stderr.write(f"{len(lab.hosts)} hosts up in {time.monotonic() - begin:.1f} s\n")
        case "down":
            rundir.release(rundir.directory_of(arguments.name))
        case "list":
            _list()
        case "inventory":
            sys.stdout.write(Lab.load(arguments.name).inventory())
        case "exec":
            host = Lab.load(arguments.name)[arguments.host]
            return subprocess.run(host.command(arguments.argv), check=False).returncode
        case "ctl":
            return subprocess.run(
                Lab.load(arguments.name).ctl_command(arguments.argv), check=False
            ).returncode
    return 0


def _list() -> None:
    """One line per host: lab, host, address, init, state."""
    for file in sorted(rundir.run_dir().glob(f"*/{rundir.OWNER}")):
        try:
            lab = Lab.load(file.parent.name)
        except LabError as error:
            sys.stderr.write(f"lab.py: {error}\n")
            continue
        for host in lab:
            state = "running" if host.is_running() else "crashed"
            sys.stdout.write(f"{lab.name}\t{host.name}\t{host.address}\t{lab.init}\t{state}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lab.py",
        description="Linux hosts on this one machine, out of namespaces, for tests and demonstrations.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="bring hosts up; they stay until `down`")
    up.add_argument("hosts", type=int, metavar="N", help="how many, named h1, h2, ...")
    up.add_argument("--host", action="append", default=[], metavar="NAME", help="one more, of this name")
    up.add_argument("--init", choices=INITS, default="sh", help="what is pid 1 (default: sh)")
    up.add_argument("--base", default="/", metavar="DIR", help="tree below every host's root (default: /)")
    up.add_argument("--disk", default="256m", metavar="SIZE", help="what a host can write (default: 256m)")
    commands.add_parser("list", help="print every lab and host of this machine")
    inventory = commands.add_parser("inventory", help="print an Ansible inventory of the hosts")
    execute = commands.add_parser("exec", help="run a command inside a host")
    execute.add_argument("host", metavar="HOST")
    ctl = commands.add_parser("ctl", help="run a command of this machine in the lab's network")
    down = commands.add_parser("down", help="end the lab, whoever began it")
    for command in (up, inventory, execute, ctl, down):
        command.add_argument("--name", default="default", help="which lab (default: default)")
    for command in (execute, ctl):
        command.add_argument("argv", nargs="+", metavar="ARG", help="the command; put -- before it")
    return parser
