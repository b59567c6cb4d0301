# SPDX-License-Identifier: Apache-2.0
"""Settings: one order of who is heard first, and nothing misspelt is ignored."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

import pytest

from agent import config, discover, errors, scanners, settings
from agent.secret import Secret
from agent.settings import Budget
from agent.sinks import file as file_sink
from agent.state import PATH_DEFAULT

WORD = "a-password-for-tests"


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    """A configuration file with something in every table."""
    path = tmp_path / "agent.toml"
    path.write_text(
        'state_dir = "/srv/agent"\n'
        'sinks = ["https", "file"]\n'
        'labels = { site = "fra1", "role.name" = "web, front" }\n'
        "[collector]\n"
        'url = "https://collector.example"\n'
        f'proxy = "http://agent:{WORD}@proxy.example:3128"\n'
        "timeout_s = 10\n"
        "[sink.file]\n"
        'path = "/srv/inventory.json"\n'
    )
    return path


def load(
    toml: Path | str | None, environ: dict[str, str] | None = None, flags: dict[str, object] | None = None
) -> config.Config:
    """The configuration of these three, and of nothing on this machine."""
    return config.load(flags, environ or {}, None if toml is None else str(toml))


def test_every_setting_of_a_file_is_read_with_its_type(toml: Path) -> None:
    """A sink's own ones too."""
    found = load(toml)

    assert found.settings.state_dir == "/srv/agent"
    assert found.settings.labels == {"site": "fra1", "role.name": "web, front"}
    assert found.settings.sinks == ("https", "file")
    assert found.settings.scanners is None
    assert found.settings.collector == settings.Collector(
        url="https://collector.example",
        proxy=Secret(f"http://agent:{WORD}@proxy.example:3128"),
        timeout_s=10,
    )
    assert found.sinks["file"] == file_sink.Settings(path="/srv/inventory.json")


def test_without_a_file_the_defaults_hold(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only the file in the default place may be missing."""
    monkeypatch.setattr(config, "FILE_DEFAULT", str(tmp_path / "missing.toml"))

    found = load(None)

    assert found.settings == settings.Settings()
    assert (found.settings.state_dir, found.settings.sinks) == (PATH_DEFAULT, ("https",))
    with pytest.raises(errors.ConfigError, match="there is no configuration file"):
        load(tmp_path / "missing.toml")
    with pytest.raises(errors.ConfigError, match="there is no configuration file"):
        load(None, {"CRYPTOFLEET_CONFIG": str(tmp_path / "missing.toml")})


def test_an_empty_table_is_known_or_refused(tmp_path: Path) -> None:
    """One with a typing error in its name would wait for settings that nobody reads."""
    path = tmp_path / "agent.toml"
    path.write_text("[collector]\n[budget]\n[sink]\n[sink.file]\n[labels]\n")
    assert load(path).settings == settings.Settings()

    for name, page in (("colector", "[colector]"), ("sink.fiel", "[sink.fiel]"), ("budget", "budget = 1")):
        path.write_text(page + "\n")
        with pytest.raises(errors.ConfigError, match=f"{name}: there is no such setting"):
            load(path)


def test_flags_win_over_the_environment_and_that_over_the_file(toml: Path) -> None:
    """One setting at a time; what a flag does not give is not taken away."""
    environ = {"CRYPTOFLEET_AGENT_COLLECTOR_TIMEOUT_S": "20", "CRYPTOFLEET_STATE": "/srv/other"}
    flags: dict[str, object] = {"collector.timeout_s": 30, "collector.url": None}

    assert load(toml).settings.collector.timeout_s == 10
    assert load(toml, environ).settings.collector.timeout_s == 20
    assert load(toml, environ).settings.state_dir == "/srv/other"
    found = load(toml, environ, flags)
    assert found.settings.collector.timeout_s == 30
    assert found.settings.collector.url == "https://collector.example"


def test_every_setting_can_be_given_in_the_environment_and_as_a_flag() -> None:
    """As texts, each in the same words."""
    texts = {
        "state_dir": "/srv/agent",
        "labels": "site=fra1, role=web",
        "scanners": ", ".join(discover.names(scanners)[:2]),
        "sinks": "https,file",
        "window_s": "60",
        "budget.time_s": "600",
        "budget.scanner_time_s": "60",
        "budget.memory_mib": "256",
        "collector.url": "https://c.example",
        "collector.pin": "sha256:00",
        "collector.ca_file": "/etc/ca.pem",
        "collector.token_file": "-",
        "collector.proxy": "http://p.example:1",
        "collector.timeout_s": "7",
        "sink.file.path": "/srv/inventory.json",
    }
    environ = {"CRYPTOFLEET_AGENT_" + name.upper().replace(".", "_"): text for name, text in texts.items()}
    environ["CRYPTOFLEET_STATE"] = environ.pop("CRYPTOFLEET_AGENT_STATE_DIR")
    nowhere = {"CRYPTOFLEET_CONFIG": os.devnull}

    assert texts.keys() == config._known().keys()
    by_environment, by_flags = load(None, environ | nowhere), load(None, nowhere, dict(texts))
    assert by_environment == by_flags
    assert by_flags.settings.labels == {"site": "fra1", "role": "web"}
    assert by_flags.settings.scanners == tuple(discover.names(scanners)[:2])
    assert by_flags.settings.collector.timeout_s == 7
    assert by_flags.settings.budget == Budget(time_s=600, scanner_time_s=60, memory_mib=256)


def test_an_empty_variable_is_not_set(toml: Path) -> None:
    """It is how a unit file takes a variable back."""
    assert load(toml, {"CRYPTOFLEET_AGENT_COLLECTOR_TIMEOUT_S": ""}).settings.collector.timeout_s == 10


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("colector = 1\n", ": colector: there is no such setting; did you mean collector.url?"),
        (
            "[collector]\ntimeout = 5\n",
            "collector.timeout: there is no such setting; did you mean collector.timeout_s?",
        ),
        (
            "[sink.file]\npth = '/x'\n",
            "sink.file.pth: there is no such setting; did you mean sink.file.path?",
        ),
        (
            "[sink.nowhere]\nx = 1\n",
            "sink.nowhere.x: there is no such setting; there are: budget.memory_mib, ",
        ),
        ("sinks = ['https', 'syslog']\n", "there is no sink 'syslog'; there are: file, https, stdout"),
        ("scanners = ['certificats']\n", "there is no scanner 'certificats'; there are: "),
        ("sinks = ['file']\n", "sink.file.path is not set, and it has no default"),
        ("sinks = 'https'\n", "sinks: Expected `array`, got `str`"),
        ("[collector]\ntimeout_s = '5'\n", "collector.timeout_s: Expected `int`, got `str`"),
        ("[collector]\ntimeout_s = 0\n", "collector.timeout_s: Expected `int` >= 1"),
        ("[budget]\nmemory_mib = 16\n", "budget.memory_mib: Expected `int` >= 128"),
        ("[budget]\ntime_s = 0\n", "budget.time_s: Expected `int` >= 1"),
        ("window_s = 86401\n", "window_s: Expected `int` <= 86400"),
        ("[collector]\nproxy = 5\n", "collector.proxy: a text is expected"),
        ("collector = 'x'\n", ": collector: there is no such setting; "),
        ("state_dir = 'relative'\n", "state_dir: Expected `str` matching regex '^/'"),
        ("labels = { Site = 'x' }\n", "labels: Expected `str` matching regex"),
        ("labels = { site = 5 }\n", "labels: Expected `str`, got `int`"),
        ("[collector\n", "is not TOML: "),
        ("x = 1\nx = 2\n", "is not TOML: "),
    ],
)
def test_a_mistake_in_the_file_is_named_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    """A misspelt setting that is ignored is one that does nothing, silently."""
    path = tmp_path / "agent.toml"
    path.write_text(text)

    with pytest.raises(errors.ConfigError) as caught:
        load(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value) or "there are:" in words or "no default" in words


def test_a_mistake_in_the_environment_is_named_with_its_variable(toml: Path) -> None:
    """Unknown names with our prefix too; other programs' variables are not ours to judge."""
    load(toml, {"CRYPTOFLEET_DATA": "/x", "CRYPTOFLEET_TOKEN": "x", "HOME": "/root"})
    with pytest.raises(
        errors.ConfigError, match=r"CRYPTOFLEET_AGENT_COLLECTOR_TIMEOUT_S: collector.timeout_s: "
    ):
        load(toml, {"CRYPTOFLEET_AGENT_COLLECTOR_TIMEOUT_S": "soon"})
    with pytest.raises(
        errors.ConfigError, match=r"there is no setting CRYPTOFLEET_AGENT_COLECTOR_URL; did you mean"
    ):
        load(toml, {"CRYPTOFLEET_AGENT_COLECTOR_URL": "https://c.example"})
    with pytest.raises(errors.ConfigError, match="CRYPTOFLEET_AGENT_LABELS: labels: write NAME=VALUE"):
        load(toml, {"CRYPTOFLEET_AGENT_LABELS": "site"})
    with pytest.raises(errors.ConfigError, match="the command line: colour: there is no such setting"):
        load(toml, {}, {"colour": "x"})


def test_a_file_is_read_with_its_own_types_wherever_it_is(
    toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file named from where one stands is still a file, and no command line."""
    monkeypatch.chdir(toml.parent)
    toml.write_text("sinks = 'https'\n")

    with pytest.raises(errors.ConfigError, match="Expected `array`, got `str`"):
        load("agent.toml")


def test_a_file_that_others_can_write_to_is_refused(toml: Path) -> None:
    """It tells a root process where to write."""
    for mode in (0o664, 0o646, 0o666):
        toml.chmod(mode)
        with pytest.raises(errors.ConfigError, match="so others can write to it"):
            load(toml)
    toml.chmod(0o644)
    load(toml)


@pytest.mark.root
def test_a_file_of_somebody_else_is_refused(toml: Path) -> None:
    """Its owner can always write to it."""
    os.chown(toml, 65534, 65534)
    with pytest.raises(errors.ConfigError, match="uid 65534, so others can write to it"):
        load(toml)


def test_a_directory_or_fifo_is_no_file_and_is_not_waited_for(tmp_path: Path) -> None:
    """A FIFO without a writer would hold the agent for ever."""
    os.mkfifo(tmp_path / "fifo", 0o600)

    with pytest.raises(errors.ConfigError, match="is no file"):
        load(tmp_path)
    with pytest.raises(errors.ConfigError, match="is no file"):
        load(tmp_path / "fifo")


def test_a_password_in_a_setting_is_not_shown(toml: Path) -> None:
    """Not by printing the configuration, and not by an error about it."""
    assert WORD not in repr(load(toml))
    for text in (f'proxy = ["http://x:{WORD}@p"]', f'proxi = "http://x:{WORD}@p"', f'timeout_s = "{WORD}"'):
        toml.write_text(f"[collector]\n{text}\n")
        with pytest.raises(errors.ConfigError) as caught:
            load(toml)
        assert WORD not in "".join(traceback.format_exception(caught.value))
