# SPDX-License-Identifier: Apache-2.0
"""`make demo`: what does the product look like at work? This machine, two lab hosts, a collector, answers.

Nothing is left running. The collector's data stays in DIRECTORY, so that one can look further.
"""

from __future__ import annotations

import argparse
import datetime as dt
import shutil
import sys
import time
from pathlib import Path

from tests.lab import planted
from tests.lab.errors import LabError, LabRefusedError
from tests.lab.fleet import FLEET, Fleet
from tests.lab.lab import Lab
from tests.lab.rundir import CHECKOUT

# Not below the checkout: the collector and the agent refuse directories that another user could swap.
DIRECTORY = Path("/var/tmp/cryptofleet-demo")
YEAR = dt.timedelta(days=365)


def hosts() -> Lab:
    """Two hosts: web2 has a renewed certificate and a TLS service with other libraries."""
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    site = planted.certificate("shop.example.org", 1, ends=now + YEAR)
    renewed = planted.certificate("shop.example.org", 2, ends=now + 2 * YEAR)
    return Lab(
        [planted.plain("web1", site), planted.plain("web2", renewed, tls_library="libgnutls.so.30")],
        init="systemd",
    )


def begin(fleet: Fleet) -> None:
    """Start the collector; enrol this machine and the lab's hosts, and let each post once."""
    tell("a collector with a store and a CA of its own, in the lab's network")
    fleet.serve()
    print(f"ca pin {fleet.pin}\nlistening on {fleet.url}")
    for host in fleet.lab:
        tell(f"{host.name}: bring the one-file agent there, enrol, scan, watch 1 s of file opens, post")
        fleet.enrol(host)
        print(fleet.post(host, "--window", "1"), end="")
    tell("this machine itself: the same agent, the same door")
    print(fleet.post_machine(), end="")


def change(fleet: Fleet) -> str:
    """Something goes wrong on web2, and web2 posts; the moment before that."""
    time.sleep(0.01)
    before = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    host = fleet.lab["web2"]
    tell("web2: an expired certificate appears; the libcrypto of an application is upgraded, not restarted")
    ended = dt.datetime.now(dt.UTC).replace(microsecond=0) - dt.timedelta(days=2)
    host.write(planted.EXPIRED, planted.certificate("old.example.org", 3, ends=ended))
    planted.upgrade_app_library(host)
    print(fleet.post(host), end="")
    return before


def show(fleet: Fleet, *words: str) -> None:
    """Print a command and what it answers."""
    print(f"\n$ fleet {' '.join(words)}")
    print(fleet.ask(*words), end="", flush=True)


def tell(words: str) -> None:
    """Say what happens next."""
    print(f"\n# {words}", flush=True)


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(
        description="Show the product at work on this machine and two lab hosts."
    )
    parser.add_argument("--agent", type=Path, default=CHECKOUT / "dist/fleet-agent", help="the frozen agent")
    parser.add_argument("--directory", type=Path, default=DIRECTORY, help="where the collector's data goes")
    args = parser.parse_args()
    shutil.rmtree(args.directory, ignore_errors=True)
    try:
        tell("two hosts on this machine: own processes, network and disk, real systemd, real sshd")
        with hosts() as lab:
            fleet = Fleet(lab, args.directory, args.agent)
            begin(fleet)
            show(fleet, "hosts")
            show(fleet, "report", "inventory")
            show(fleet, "diff", "web1", "web2")
            before = change(fleet)
            show(fleet, "report", "compliance", "--diff", "--since", before)
    except LabRefusedError as error:
        print(f"demo: this machine cannot hold the two lab hosts: {error}", file=sys.stderr)
        return 1
    except LabError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    print(
        f"""
# Look further: the hosts and the collector are gone, what was collected is in {args.directory}
export CRYPTOFLEET_DATA={fleet.data}
{FLEET} show web2 --section certificates
{FLEET} diff web2 --since {before}
{FLEET} report compliance --as-of {dt.datetime.now(dt.UTC).year + 2}-01-01
{FLEET} report compliance --format json | jq '.tables.findings[].evidence'
{args.agent} snapshot --format summary"""
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
