"""deploy/prometheus: the rules load, each alert has a case that fires it and one that does not, and a section of docs/alerts.md."""

import yaml

from common import DEPLOY, ROOT, anchors, check_metrics, expect, finish, run, tool

RULES = DEPLOY / "prometheus/alerts.yml"
TESTS = DEPLOY / "prometheus/alerts_test.yml"
promtool = tool("promtool", "prometheus")

checked = run(promtool, "check", "rules", RULES)
expect(checked.returncode == 0, checked.stdout + checked.stderr)
tested = run(promtool, "test", "rules", TESTS)
expect(tested.returncode == 0 and "SUCCESS" in tested.stdout + tested.stderr, tested.stdout + tested.stderr)

alerts = {rule["alert"]: rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}
expect(len(alerts) >= 10, f"{len(alerts)} alerts are few")
# What a process has once, whatever it runs.
OF_A_PROCESS = ("CatchmentDown", "CatchmentMemoryFull", "CatchmentWorkerAway")

cases = [case for test in yaml.safe_load(TESTS.read_text())["tests"] for case in test["alert_rule_test"]]
states = (ROOT / "docs/api.md").read_text()
sections = anchors("docs/alerts.md")
for name, rule in alerts.items():
    expect(any(case["alertname"] == name and case["exp_alerts"] for case in cases), f"{name}: no case fires it")
    expect(any(case["alertname"] == name and not case["exp_alerts"] for case in cases), f"{name}: no case shows when it is silent")
    expect(rule["labels"].get("severity") in ("critical", "warning"), f"{name}: no severity")
    for annotation in ("summary", "description", "runbook"):
        expect(rule["annotations"].get(annotation), f"{name}: no {annotation}")
    expect(rule["annotations"].get("runbook") == f"docs/alerts.md#{name.lower()}", f"{name}: the runbook is its section")
    expect(name.lower() in sections, f"{name}: docs/alerts.md has no section of it")
    check_metrics(rule["expr"], name)
    expect("rule" in rule["expr"] or name in OF_A_PROCESS, f"{name}: it does not tell rules apart")
expect({case["alertname"] for case in cases} <= alerts.keys(), "a case of an alert that is not there")
stale = {section for section in sections if section.startswith("catchment")} - {name.lower() for name in alerts}
expect(not stale, f"docs/alerts.md explains alerts that are not there: {sorted(stale)}")
for state in ("failed", "degraded", "source-missing", "waiting"):
    expect(f"`{state}`" in states, f"docs/api.md knows no state {state}")
finish("alerts")
