"""What watches the service names only what the service has, in words that Prometheus reads."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support import servers
from support.service import Server

DEPLOY = Path("deploy")
NAME = re.compile(r"\bltr_[a-z0-9_]+")


@pytest.fixture(scope="session")
def checker() -> str:
    """Prometheus' own checker of rules."""
    program = shutil.which("promtool")
    if program is None:
        servers.missing("promtool", "install prometheus, which brings it")
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    servers.used("promtool", said.split()[2])
    return program


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names of the series of a real service; a family without a series yet counts by its declaration."""
    with Server(tmp_path_factory.mktemp("service"), LTR_SHADOW_VERSION="legacy") as server:
        text = server.metrics()
    found = {line.split("{")[0].split()[0] for line in text.splitlines() if not line.startswith("#")}
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE):
        found |= {f"{name}{end}" for end in ("_bucket", "_sum", "_count")} if kind == "histogram" else {name}
    return {name for name in found if not name.endswith("_created")}  # the client library's own


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    return found


def shown() -> Iterator[str]:
    for panel in dashboard()["panels"]:
        yield from (target["expr"] for target in panel["targets"])


def alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def test_every_metric_that_is_watched_exists(exported: set[str]) -> None:
    watched = {
        name for expression in (*shown(), *(rule["expr"] for rule in alerts())) for name in NAME.findall(expression)
    }
    assert watched
    assert watched <= exported


def test_every_metric_of_the_service_is_on_the_dashboard(exported: set[str]) -> None:
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in exported if name.startswith("ltr_")}
    seen = {re.sub(r"_(bucket|sum|count)$", "", name) for expression in shown() for name in NAME.findall(expression)}
    assert families - seen == set()


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in dashboard()["panels"]]
    assert len(set(ids)) == len(ids)


def test_the_rules_and_what_they_say_of_a_sick_service(checker: str) -> None:
    for what in (["check", "rules", "--lint-fatal", "alerts.yml"], ["test", "rules", "alerts_test.yml"]):
        done = subprocess.run([checker, *what], cwd=DEPLOY, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboards_expressions_are_promql(checker: str, tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, expression in enumerate(shown())
    ]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run([checker, "check", "rules", file], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_and_explained() -> None:
    names = {rule["alert"] for rule in alerts()}
    tested = (DEPLOY / "alerts_test.yml").read_text()
    for name in names:
        assert f'alertname="{name}"' in tested  # that it fires
        assert f"alertname: {name}}}" in tested  # that it is quiet
        assert name in Path("docs/serving.md").read_text()


def test_the_ingress_asks_for_the_shadow_for_a_tenth() -> None:
    service = yaml.safe_load((DEPLOY / "istio-shadow.yaml").read_text())
    assert (service["apiVersion"], service["kind"]) == ("networking.istio.io/v1", "VirtualService")
    rank, rest = service["spec"]["http"]
    weights = {
        route["headers"]["request"].get("set", {}).get("x-shadow-ltr"): route["weight"] for route in rank["route"]
    }
    assert weights == {None: 90, "1": 10}
    assert {route["destination"]["host"] for route in (*rank["route"], *rest["route"])} == {"ltr-serving"}
