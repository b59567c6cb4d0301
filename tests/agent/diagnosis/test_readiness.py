# SPDX-License-Identifier: Apache-2.0
"""What is judged from what was tried: what is missing, for which command, and what gives it."""

from __future__ import annotations

import dataclasses

import pytest

from agent import errors
from agent.diagnosis import conditions, readiness, remedies
from agent.diagnosis.remedies import Place
from agent.diagnosis.trials import LAYER, PROBE, Attempt
from agent.model.status import Own
from agent.procfs.status import CAPABILITIES, Privileges

NONE = Privileges(effective=0, bounding=2**41 - 1, ambient=0, no_new_privs=False, is_filtered=False)
ALL = dataclasses.replace(NONE, effective=2**41 - 1)
ALICE = Place(uid=1000, user="alice", unit=None, container=None)
ROOT = Place(uid=0, user="root", unit=None, container=None)
PROBES = ("file_open", "lib_load", "process_exec", "process_exit")

KEYS = (*conditions.CONDITIONS, *(PROBE + name for name in PROBES), "procmap_query")


def tried(**failures: tuple[str, bool]) -> dict[str, Attempt]:
    """All attempts; those that are named failed so, and were denied or not."""
    found = {key: Attempt(f"try {key}") for key in KEYS}
    for name, (failure, is_denied) in failures.items():
        key = name.replace("probe_", PROBE) if name.startswith("probe_") else name
        found[key] = Attempt(f"try {key}", failure, is_denied)
    return found


def works(attempts: dict[str, Attempt], held: Privileges = NONE, place: Place = ALICE) -> dict[str, str]:
    """Each command in one word."""
    commands, _ = readiness.judge(attempts, held, place)
    return {name: command.works for name, command in commands.items()}


def only(attempts: dict[str, Attempt], held: Privileges = NONE, place: Place = ALICE) -> str:
    """The name of the one thing that is missing."""
    (missing,) = readiness.judge(attempts, held, place)[1]
    return missing.name


def test_where_nothing_failed_nothing_is_missing_whatever_capabilities_lack() -> None:
    """Not names count but the kernel's answers."""
    assert set(works(tried()).values()) == {"fully"}
    assert readiness.judge(tried(), NONE, ALICE)[1] == ()


def test_a_refusal_is_put_down_to_the_capability_that_lacks() -> None:
    """That is what can be granted."""
    assert only(tried(maps=("5 of 9 refused", True))) == "CAP_SYS_PTRACE"


def test_a_refusal_in_spite_of_the_capability_is_put_down_to_what_refused() -> None:
    """Nobody is sent to grant what is there."""
    commands, (missing,) = readiness.judge(tried(maps=("1 of 9 refused", True)), ALL, ROOT)

    assert missing.name == "process-access"
    assert "nothing to grant" in missing.remedy[0]
    assert commands["snapshot"].works == "partly"


def test_a_failure_that_is_no_refusal_needs_no_capability() -> None:
    """A kernel without BTF has none for root either."""
    commands, (missing,) = readiness.judge(tried(btf=("no such file", False)), NONE, ALICE)

    assert missing.name == "btf"
    assert commands["monitor"].exit_code == errors.EXIT_KERNEL
    assert commands["snapshot"].works == "fully"


def test_a_wider_capability_stands_for_a_narrow_one() -> None:
    """Before Linux 5.8 there was only the wide one."""
    held = dataclasses.replace(NONE, effective=1 << CAPABILITIES["CAP_SYS_ADMIN"])

    assert only(tried(program=("EPERM", True)), held) == "bpf"


def test_without_both_capabilities_monitor_lacks_privilege_and_with_them_the_kernel_refuses() -> None:
    """The exit codes are those of the commands."""
    denied = tried(program=("EPERM", True))

    without = readiness.judge(denied, NONE, ALICE)[0]["monitor"]
    refused = readiness.judge(denied, ALL, ROOT)[0]["monitor"]

    assert (without.exit_code, without.missing) == (errors.EXIT_PRIVILEGE, ("CAP_BPF", "CAP_PERFMON"))
    assert (refused.exit_code, refused.missing) == (errors.EXIT_KERNEL, ("bpf",))


def test_one_probe_of_several_hides_and_the_last_one_stops() -> None:
    """`monitor` goes on with the others, `files` has no other."""
    refused = tried(probe_file_open=("EINVAL", False))

    assert works(refused) == {
        "snapshot": "fully", "monitor": "partly", "files": "not", "libs": "fully", "profile": "partly",
        "run": "partly",
    }  # fmt: skip
    all_refused = tried(**{f"probe_{name}": ("EINVAL", False) for name in PROBES})
    assert works(all_refused)["monitor"] == "not"


def test_what_stops_a_command_is_named_before_what_only_hides() -> None:
    """And its exit code is the first one's that the command comes to."""
    attempts = tried(maps=("refused", True), switch=("frozen", False), program=("EPERM", True))

    command = readiness.judge(attempts, NONE, ALICE)[0]["profile"]

    assert command.missing == ("switched-off", "CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE")
    assert command.exit_code == errors.EXIT_FAILURE


def test_what_lacks_for_several_reasons_is_told_once_with_all_of_them() -> None:
    """One thing to grant, however much it gives."""
    refused = ("refused", True)

    _, missing = readiness.judge(tried(listing=refused, maps=refused, executables=refused), NONE, ALICE)

    (ptrace,) = missing
    assert ptrace.name == "CAP_SYS_PTRACE"
    assert len(ptrace.why) == len(ptrace.means) == 3
    assert len(set(ptrace.remedy)) == len(ptrace.remedy)


@pytest.mark.parametrize("key", [*conditions.CONDITIONS, *(PROBE + name for name in PROBES)])
def test_every_failure_hinders_a_command_and_is_told(key: str) -> None:
    """Nothing that failed is left out."""
    attempts = tried() | {key: Attempt("try", "failed")}

    commands, missing = readiness.judge(attempts, ALL, ROOT)

    (one,) = missing
    assert one.commands
    assert all(commands[name].missing == (one.name,) for name in one.commands)
    assert all((one.why, one.means, one.remedy))


def test_conditions_name_only_commands_and_capabilities_that_there_are() -> None:
    """A slip in the table would be silent."""
    for condition in conditions.CONDITIONS.values():
        assert {*condition.stops, *condition.hides} <= set(conditions.COMMANDS)
        assert set(condition.capabilities) <= set(CAPABILITIES)
        assert not {*condition.stops} & {*condition.hides}


# -- remedies ------------------------------------------------------------------------------------------------


def test_a_user_is_shown_sudo_and_the_unit_s_line() -> None:
    """The shortest way first."""
    assert remedies.grant("CAP_BPF", NONE, ALICE) == [
        "run it as root: sudo fleet-agent ...",
        "in its unit (systemctl edit fleet-agent.service): AmbientCapabilities=CAP_BPF",
    ]


def test_where_sudo_gives_nothing_it_is_not_recommended() -> None:
    """no_new_privs is what containers and units set."""
    held = dataclasses.replace(NONE, no_new_privs=True)

    assert "sudo gives nothing here" in remedies.grant("CAP_BPF", held, ALICE)[0]


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (dataclasses.replace(ROOT, container="docker"), "--cap-add=SYS_PTRACE"),
        (
            dataclasses.replace(ROOT, unit="scan.service"),
            "systemctl edit scan.service): CapabilityBoundingSet=",
        ),
        (ROOT, "nothing started from here can have it"),
    ],
)
def test_what_the_bounding_set_lacks_is_given_where_the_set_is_made(place: Place, words: str) -> None:
    """No sudo and no unit inside gives it back."""
    held = dataclasses.replace(NONE, bounding=0)

    (remedy,) = remedies.grant("CAP_SYS_PTRACE", held, place)

    assert words in remedy


def test_one_line_gives_all_to_one_run() -> None:
    """Whoever is no root and wants no service."""
    once, never = remedies.all_at_once(["CAP_BPF", "CAP_PERFMON"], NONE, ALICE)

    assert "systemd-run" in once
    assert "--uid=alice --property=AmbientCapabilities='CAP_BPF CAP_PERFMON'" in once
    assert "not by setcap" in never
    assert remedies.all_at_once(["CAP_BPF"], NONE, ROOT) == []
    assert remedies.all_at_once([], NONE, ALICE) == []


# -- notes ---------------------------------------------------------------------------------------------------

OWN = Own(
    version="1", user="root", uid=0, unit=None, container=None, sees_all_pids=True, is_user_initial=True,
    no_new_privs=False, is_filtered=False,
)  # fmt: skip


def test_where_all_is_as_usual_there_is_nothing_to_note() -> None:
    """Words that always stand there are not read."""
    assert readiness.notes(OWN, tried()) == []


def test_a_container_is_told_that_complete_means_itself() -> None:
    """A report of it must not pass for one of its host."""
    own = Own(
        version="1", user="root", uid=0, unit=None, container="docker", sees_all_pids=False,
        is_user_initial=False, no_new_privs=False, is_filtered=True,
    )  # fmt: skip
    attempts = tried(procmap_query=("the kernel has no PROCMAP_QUERY (ENOTTY)", False))
    attempts[LAYER + "user"] = Attempt("hold it by user", "setuid: operation not permitted")

    pids, users, slow, held = readiness.notes(own, attempts)

    assert "processes outside it do not exist here" in pids
    assert "none on the host" in users
    assert "slower and sees the same" in slow
    assert "user (setuid: operation not permitted)" in held
