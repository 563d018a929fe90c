"""deploy/grafana: each expression is one that Prometheus parses, over metrics that are documented; panels do not overlap."""

import json
import re
import tempfile
from pathlib import Path

import yaml

from common import DEPLOY, check_metrics, documented_metrics, expect, finish, metrics_of, run, tool

promtool = tool("promtool", "prometheus")
board = json.loads((DEPLOY / "grafana/catchment.json").read_text())
panels = [panel for panel in board["panels"] if panel["type"] != "row"]
variables = {variable["name"] for variable in board["templating"]["list"]}
expect({"datasource", "job", "rule"} <= variables, f"variables: {variables}")
expect(len({panel["id"] for panel in board["panels"]}) == len(board["panels"]), "two panels have one id")

cells: dict[tuple[int, int], str] = {}
rules, shown = [], set()
for panel in panels:
    title, place = panel["title"], panel["gridPos"]
    expect(panel.get("description"), f"{title}: it does not say what it shows")
    expect(panel["datasource"]["uid"] == "${datasource}", f"{title}: a data source of its own")
    expect(place["x"] + place["w"] <= 24, f"{title}: wider than the page")
    for cell in ((x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])):
        expect(cell not in cells, f"{title} lies over {cells.get(cell)}")
        cells[cell] = title
    for target in panel["targets"]:
        expression = target["expr"]
        shown |= metrics_of(expression)
        check_metrics(expression, title)
        used = set(re.findall(r"\$(\w+)", expression)) - {"__rate_interval"}
        expect(used <= variables, f"{title}: unknown variables {used - variables}")
        plain = expression.replace("$__rate_interval", "5m").replace("$job", ".*").replace("$rule", ".*")
        rules.append({"record": f"panel:{panel['id']}:{target['refId'].lower()}", "expr": plain})
for variable in board["templating"]["list"]:
    if variable["type"] == "query":
        check_metrics(variable["definition"], f"variable {variable['name']}")

# What is documented is shown; a metric that is new wants a panel.
expect(documented_metrics() <= shown, f"no panel shows {sorted(documented_metrics() - shown)}")

with tempfile.TemporaryDirectory() as directory:
    file = Path(directory) / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    checked = run(promtool, "check", "rules", file)
    expect(checked.returncode == 0 and f"{len(rules)} rules found" in checked.stdout, checked.stdout + checked.stderr)
finish("dashboard")
