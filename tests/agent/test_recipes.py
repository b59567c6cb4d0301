# SPDX-License-Identifier: Apache-2.0
"""Do the recipes that users of crypto-tracer already have run unchanged on what this agent says?

tests/agent/recipes holds them word for word. They find the agent as `./crypto-tracer`, a link to the one
file, and are run by the real bash, jq, python3, sudo and promtool.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.kernel, pytest.mark.slow]

RECIPES = Path(__file__).parent / "recipes"
# What the recipes' lines about Prometheus write to; users have the directory from node_exporter.
METRICS = Path("/var/lib/node_exporter/textfile_collector/crypto.prom")
WINDOW_S = 4


def lines(name: str) -> list[str]:
    """The commands of a recipe, without its comments."""
    page = (RECIPES / name).read_text()
    return [line for line in page.splitlines() if line and not line.startswith("#")]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, frozen_agent: Path) -> Path:
    """A user's directory: the link, the recipes by their own names, and a key with its certificate."""
    desk = tmp_path_factory.mktemp("desk")
    (desk / "crypto-tracer").symlink_to(frozen_agent)
    for recipe in RECIPES.glob("*.txt"):
        shutil.copy(recipe, desk / recipe.name.removesuffix(".txt"))
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=desk"
    words = [*make.split(), "-keyout", "server.key", "-out", "server.pem"]
    subprocess.run(words, cwd=desk, check=True, capture_output=True)
    return desk


def use_cryptography(desk: Path) -> None:
    """Make every kind of event: programs begin, load libcrypto, open a certificate and a key, and end."""
    for words in (["x509", "-in", f"{desk}/server.pem"], ["pkey", "-in", f"{desk}/server.key"]):
        subprocess.run(["openssl", *words, "-noout"], check=True, capture_output=True)


@pytest.fixture(scope="module")
def events(desk: Path) -> list[dict[str, Any]]:
    """The events of a few seconds, as `monitor` left them in events.json."""
    words = ["sudo", "./crypto-tracer", "monitor", "--duration", str(WINDOW_S), "--output", "events.json"]
    with subprocess.Popen(words, cwd=desk, stderr=subprocess.PIPE, text=True) as watching:
        while watching.poll() is None:
            use_cryptography(desk)
            time.sleep(0.2)
        assert watching.returncode == 0, watching.stderr and watching.stderr.read()
    found = [json.loads(line) for line in (desk / "events.json").read_text().splitlines()]
    assert found
    return found


def bash(line: str, desk: Path, **variables: str) -> str:
    """Standard output of a line that every program of succeeds."""
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", line],
        cwd=desk,
        env=os.environ | variables,
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, ""), line
    return done.stdout


# -- events --------------------------------------------------------------------------------------------------


def test_an_event_has_every_key_of_the_documented_one_with_the_same_type(
    events: list[dict[str, Any]],
) -> None:
    """The four events of the old tool's documentation, key by key."""
    for documented in map(json.loads, lines("events.jsonl.txt")):
        same = [event for event in events if event["event_type"] == documented["event_type"]]
        assert same, documented["event_type"]
        for event in same:
            types = {key: type(event.get(key)) for key in documented}
            # What a process is called or has opened may have been out of sight; the key is there.
            assert types == {key: type(value) for key, value in documented.items()}, event


def test_timestamps_are_of_now_and_always_have_six_digits(events: list[dict[str, Any]]) -> None:
    """The old tool printed 1970, and its users' Elasticsearch mapping wants a date."""
    for event in events:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", event["timestamp"])
        assert abs(time.time() - float(bash(f"date -d {event['timestamp']} +%s", Path("/")))) < 600


@pytest.mark.parametrize("line", lines("jq.txt"))
def test_a_jq_line_runs(line: str, desk: Path, events: list[dict[str, Any]]) -> None:
    """Without a word on standard error, and with something to print unless it selects what is not there."""
    printed = bash(line, desk)

    assert printed or 'process == "nginx"' in line
    if line.endswith("jq -s 'length'"):
        assert int(printed) == len(events)
    if line.endswith("'[.[].file] | unique | length'"):
        assert int(printed) == len({event.get("file") for event in events})
    if "map({process: .[0].process, count: length})'" in line:
        counted = {row["process"]: row["count"] for row in json.loads(printed)}
        assert counted == Counter(event["process"] for event in events)


def test_the_bulk_index_recipe_makes_two_lines_of_each_event(
    desk: Path, events: list[dict[str, Any]]
) -> None:
    """Its jq, as the script has it; there is no Elasticsearch here to send them to."""
    (line,) = [line for line in lines("bulk-index-elasticsearch.sh.txt") if line.startswith("cat ")]

    printed = bash(line.removesuffix(" | \\"), desk, INDEX_NAME="crypto-events").splitlines()

    assert printed[0] == '{"index":{"_index":"crypto-events"}}'
    assert [json.loads(line) for line in printed[1::2]] == events


def test_the_batch_analysis_counts_what_is_there(desk: Path, events: list[dict[str, Any]]) -> None:
    """analyze-crypto-events.py."""
    printed = bash(f"{shlex.quote(sys.executable)} analyze-crypto-events.py events.json", desk).splitlines()

    assert printed[0] == f"Total events: {len(events)}"
    for kind, count in Counter(event["event_type"] for event in events).items():
        assert f"  {kind}: {count}" in printed


def test_the_real_time_script_alerts_on_a_private_key(desk: Path) -> None:
    """process-crypto-events.py: sudo, a pipe, an unlimited stream, ended by Ctrl-C."""
    words = [sys.executable, "-u", "process-crypto-events.py"]
    uses = f"while sleep 0.2; do openssl x509 -in {desk}/server.pem; openssl pkey -in {desk}/server.key; done"
    with (
        # Again and again, because the first time may be before the watching has begun.
        subprocess.Popen(["bash", "-c", uses], stdout=subprocess.DEVNULL, start_new_session=True) as using,
        subprocess.Popen(
            words, cwd=desk, stdout=subprocess.PIPE, text=True, encoding="utf-8", start_new_session=True
        ) as script,
    ):
        assert script.stdout is not None
        seen: list[str] = []
        # Other programs of this machine may be seen, too.
        expected = [f"openssl opened {desk}/server.key", "accessed by openssl", "openssl loaded libcrypto"]
        try:
            while not all(words in "".join(seen) for words in expected) and len(seen) < 1000:
                seen.append(script.stdout.readline())
        finally:
            os.killpg(using.pid, signal.SIGKILL)
            os.killpg(script.pid, signal.SIGINT)
        rest = script.stdout.read()

    assert [words for words in expected if words not in "".join(seen)] == []
    assert "Stopping..." in rest
    assert script.returncode == 0


# -- Prometheus ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scraped(desk: Path) -> str:
    """What export-prometheus-metrics.sh leaves for node_exporter."""
    return written_by("bash export-prometheus-metrics.sh", desk)


def written_by(command: str, desk: Path) -> str:
    """The metrics file after a command, in a mount namespace with a layer over /var/lib that goes away."""
    layer = desk / "layer"
    layers = f"lowerdir=/var/lib,upperdir={layer}/upper,workdir={layer}/work"
    script = f"""
        mount -t tmpfs tmpfs {layer}
        mkdir {layer}/upper {layer}/work
        mount -t overlay overlay -o {layers} /var/lib
        mkdir -p {METRICS.parent}
        {command} >&2
        cat {METRICS}
    """
    layer.mkdir(exist_ok=True)
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-euc", script], cwd=desk, check=False, capture_output=True, text=True
    )
    if "overlay" in done.stderr and "mount" in done.stderr:
        pytest.skip(f"no layer over /var/lib: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return done.stdout


def promtool(*words: str | Path, data: str | None = None) -> str:
    """What promtool says of something that it accepts."""
    done = subprocess.run(["promtool", *words], input=data, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def values(page: str) -> dict[str, int]:
    """The samples of a page of metrics."""
    samples = (line.split() for line in page.splitlines() if line and not line.startswith("#"))
    return {name: int(value) for name, value in samples}


def test_the_exported_metrics_are_those_that_promtool_accepts(scraped: str) -> None:
    """And they are not nothing: this very test's interpreter has libcrypto mapped."""
    found = values(scraped)

    assert sorted(found) == ["crypto_files", "crypto_libraries", "crypto_processes"]
    assert found["crypto_libraries"] >= found["crypto_processes"] > 0
    assert "error" not in promtool("check", "metrics", data=scraped)


def test_the_exporter_loop_writes_the_same_metrics(desk: Path) -> None:
    """prometheus-exporter.sh never ends; its first round is looked at."""
    loop = f"setsid bash prometheus-exporter.sh & while ! [ -e {METRICS} ]; do sleep 0.1; done; kill -- -$!"

    assert sorted(values(written_by(loop, desk))) == ["crypto_files", "crypto_libraries", "crypto_processes"]


def test_the_alerting_rules_and_queries_fit_the_metrics(desk: Path, scraped: str) -> None:
    """promtool evaluates the recipe's own rules, and its queries, over series with the exported values."""
    found = values(scraped)
    promtool("check", "rules", desk / "prometheus-alerts.yml")
    series = [{"series": name, "values": f"{value}x10"} for name, value in found.items()]
    expected = [{"exp_labels": {"severity": "info"}, "exp_annotations": told(found["crypto_processes"])}] * (
        found["crypto_processes"] > 50
    )
    queries = [
        {
            "expr": query,
            "eval_time": "9m",
            "exp_samples": answer(query, found["crypto_processes"]),
        }
        for query in lines("promql.txt")
    ]
    case = {
        "interval": "1m",
        "input_series": series,
        "alert_rule_test": [
            {"eval_time": "9m", "alertname": "HighCryptoActivity", "exp_alerts": expected},
            {"eval_time": "9m", "alertname": "NoCryptoProcesses", "exp_alerts": []},
        ],
        "promql_expr_test": queries,
    }
    # YAML takes JSON.
    page = {"rule_files": ["prometheus-alerts.yml"], "evaluation_interval": "1m", "tests": [case]}
    (desk / "rules_test.yml").write_text(json.dumps(page))

    assert "SUCCESS" in promtool("test", "rules", desk / "rules_test.yml")


def told(processes: int) -> dict[str, str]:
    """Those of the recipe's rule HighCryptoActivity."""
    return {
        "summary": "High crypto activity detected",
        "description": f"{processes} processes using crypto",
    }


def answer(query: str, processes: int) -> list[dict[str, Any]]:
    """What a query gives over a series that is always the same and not 0."""
    if query == "crypto_processes":
        return [{"labels": "crypto_processes", "value": processes}]
    if query.startswith("rate("):
        return [{"labels": "{}", "value": 0}]
    return []
