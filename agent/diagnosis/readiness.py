# SPDX-License-Identifier: Apache-2.0
"""Which commands work here, what is missing, what does that mean, and what gives it?

Judged from what was tried. A refusal is put down to the capabilities that prevent it, where this process
lacks them; else to what refused. So nothing is called missing that did not fail, and nothing that failed is
left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from agent import errors
from agent.diagnosis import conditions
from agent.diagnosis.conditions import COMMANDS, Condition
from agent.diagnosis.remedies import Place, grant
from agent.diagnosis.trials import LAYER, Attempt
from agent.model.status import Command, Missing, Own, Works
from agent.procfs.status import Privileges

_RANK: dict[Works, int] = {"not": 0, "partly": 1, "fully": 2}
# The wider one that stands for it (capabilities(7)).
_WIDER = {
    "CAP_BPF": "CAP_SYS_ADMIN",
    "CAP_PERFMON": "CAP_SYS_ADMIN",
    "CAP_CHECKPOINT_RESTORE": "CAP_SYS_ADMIN",
    "CAP_DAC_READ_SEARCH": "CAP_DAC_OVERRIDE",
}


@dataclass(kw_only=True)
class _Lack:
    """One missing thing, gathered from all that failed for want of it."""

    name: str
    stops: dict[str, int] = field(default_factory=dict)
    hides: dict[str, None] = field(default_factory=dict)
    why: dict[str, None] = field(default_factory=dict)
    means: dict[str, None] = field(default_factory=dict)
    remedy: dict[str, None] = field(default_factory=dict)

    def works(self) -> dict[str, Works]:
        """The commands it hinders, in the order of `COMMANDS`."""
        found: dict[str, Works] = {}
        for command in COMMANDS:
            if command in self.stops:
                found[command] = "not"
            elif command in self.hides:
                found[command] = "partly"
        return found


def judge(
    tried: Mapping[str, Attempt], held: Privileges, place: Place
) -> tuple[dict[str, Command], tuple[Missing, ...]]:
    """What each command would do, and what is missing, both in the order in which commands come to it."""
    lacks: dict[str, _Lack] = {}
    for condition, attempt in _failed(tried):
        lacking = [name for name in condition.capabilities if attempt.is_denied and not _holds(held, name)]
        for name in lacking or [condition.name]:
            lack = lacks.setdefault(name, _Lack(name=name))
            for command, code in condition.stops.items():
                own = condition.lacking_code if lacking and condition.lacking_code is not None else code
                lack.stops.setdefault(command, own)
            lack.hides |= dict.fromkeys(condition.hides)
            lack.why[f"{attempt.what}: {attempt.failure}"] = None
            lack.means[condition.means] = None
            lack.remedy |= dict.fromkeys(grant(name, held, place) if lacking else [condition.remedy])
    return {command: _command(command, lacks.values()) for command in COMMANDS}, tuple(
        Missing(
            name=lack.name,
            commands=lack.works(),
            why=tuple(lack.why),
            means=tuple(lack.means),
            remedy=tuple(lack.remedy),
        )
        for lack in lacks.values()
    )


def _failed(tried: Mapping[str, Attempt]) -> Iterable[tuple[Condition, Attempt]]:
    """What did not work and is needed, in the order of the attempts."""
    for key, attempt in tried.items():
        if attempt.failure is None:
            continue
        condition = conditions.of(key, tried)
        if condition is not None:
            yield condition, attempt


def _command(command: str, lacks: Iterable[_Lack]) -> Command:
    hindering = [lack for lack in lacks if command in lack.works()]
    # What stops it comes first; commands come to things in the order in which they were tried.
    hindering.sort(key=lambda lack: _RANK[lack.works()[command]])
    works: Works = hindering[0].works()[command] if hindering else "fully"
    code = hindering[0].stops[command] if works == "not" else errors.EXIT_COMPLETE
    return Command(works=works, exit_code=code, missing=tuple(lack.name for lack in hindering))


def _holds(held: Privileges, capability: str) -> bool:
    return held.may(capability) or (capability in _WIDER and held.may(_WIDER[capability]))


def notes(own: Own, tried: Mapping[str, Attempt]) -> list[str]:
    """What is as it must be here, and good to know."""
    found = []
    if not own.sees_all_pids:
        found.append(
            "this is a pid namespace of its own (a container's): processes outside it do not exist here, and"
            " what commands call complete is complete for it alone. An agent on the host itself sees all"
        )
    if not own.is_user_initial:
        found.append(
            "this is a user namespace of its own: its root has every capability in it, and none on the host"
        )
    slow = tried["procmap_query"].failure
    if slow is not None:
        found.append(f"{slow}: pages of processes are read as text, which is slower and sees the same")
    unheld = [
        f"{key.removeprefix(LAYER)} ({attempt.failure})"
        for key, attempt in tried.items()
        if key.startswith(LAYER) and attempt.failure is not None
    ]
    if unheld:
        found.append(f"these do not hold the process that reads found files: {', '.join(unheld)}")
    return found
