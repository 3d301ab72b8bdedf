"""What is shipped for Prometheus and Grafana: asked of promtool, and held against the declared metrics."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from sidecar.adapters.metrics import METRICS
from sidecar.cli.reference_pages import FOLDER

ALERTS = FOLDER / "alerts.yml"
RUNBOOK = (FOLDER / "runbook.md").read_text()
SERIES = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_sum", "_count"),
}
SHOWN = {one.name + suffix for one in METRICS for suffix in SERIES[one.kind]}


def promtool(*words: str) -> str:
    done = subprocess.run(["promtool", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def named(text: str) -> set[str]:
    return set(re.findall(r"\bsidecar_[a-z_]+", text))


def alerts() -> list[str]:
    return re.findall(r"- alert: (\w+)", ALERTS.read_text())


def test_each_alert_fires_where_it_should_and_not_before() -> None:
    tests = Path(__file__).parent / "prometheus" / "alerts_test.yml"
    assert "SUCCESS" in promtool("test", "rules", str(tests))
    told = tests.read_text()
    for alert in alerts():
        assert len(re.findall(rf"alertname: {alert}\n +exp_alerts:\n", told)) >= 1, f"{alert} is seen to fire"
        assert f"alertname: {alert}, exp_alerts: []" in told, f"{alert} is seen not to fire"


def test_rules_and_panels_ask_for_metrics_that_there_are(tmp_path: Path) -> None:
    assert f"{len(alerts())} rules found" in promtool("check", "rules", str(ALERTS))
    assert named(ALERTS.read_text()) <= SHOWN
    dashboard = json.loads((FOLDER / "dashboard.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert all(panel["targets"] for panel in dashboard["panels"])
    rules = tmp_path / "panels.json"  # YAML as well
    of_panels = [{"record": f"panel:{place}", "expr": query} for place, query in enumerate(queries)]
    rules.write_text(json.dumps({"groups": [{"name": "panels", "rules": of_panels}]}))
    assert f"{len(queries)} rules found" in promtool("check", "rules", str(rules))
    for query in queries:
        assert named(query), query
        assert named(query) <= SHOWN, query


def test_each_alert_has_its_entry_in_the_runbook_and_each_entry_its_alert() -> None:
    entries = re.split(r"^## ", RUNBOOK, flags=re.MULTILINE)[1:]
    assert [entry.split("\n", 1)[0] for entry in entries] == alerts(), "in the order of the rules"
    for entry in entries:
        for part in ("**Cause.**", "**Look.**", "**Do.**", "**Meanwhile.**"):
            assert part in entry, entry.split("\n", 1)[0]
