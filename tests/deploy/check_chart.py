"""deploy/helm: the schema knows all values, Helm renders the chart, Kubernetes' own schemas accept what comes out, and the program its arguments."""

import functools
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import jsonschema_rs
import yaml

from common import DEPLOY, ROOT, binary, cargo_version, expect, finish, run, understood

CHART = DEPLOY / "helm/catchment"
HERE = Path(__file__).parent
# Of the package, only the schemas are used: its code needs more packages.
SCHEMAS = Path(importlib.util.find_spec("kubernetes_validate").submodule_search_locations[0]) / "kubernetes-json-schema"
versions = sorted((path.name[1:].removesuffix("-local-strict") for path in SCHEMAS.glob("*-strict")), key=lambda name: [int(part) for part in name.split(".")])
# The oldest that the chart takes, and the newest that the package knows.
KUBERNETES = [next(version for version in versions if version == "1.25.0"), versions[-1]]

helm = subprocess.check_output([HERE / "helm.sh", "where"], text=True).strip()
if not os.access(helm, os.X_OK):
    sys.exit("Helm is not built: tests/deploy/helm.sh build, or scripts/test, which does")


def render(version: str, *arguments: str):
    return run(helm, "template", "backup", CHART, "--namespace", "data", "--kube-version", version, *arguments)


def objects_of(version: str, *arguments: str) -> dict[tuple[str, str], dict]:
    done = render(version, *arguments)
    expect(done.returncode == 0, f"helm template {arguments}: {done.stderr}")
    objects = [found for found in yaml.safe_load_all(done.stdout) if found]
    return {(found["kind"], found["metadata"]["name"]): found for found in objects}


def schema_of(version: str, found: dict) -> Path:
    group, _, api = found["apiVersion"].rpartition("/")
    suffix = f"{group.split('.')[0]}-{api}" if group else api
    return SCHEMAS / f"v{version}-local-strict" / f"{found['kind'].lower()}-{suffix}.json"


@functools.cache
def definitions(version: str) -> jsonschema_rs.Registry:
    """What the schemas refer to, by the address that they have for it; nothing is fetched."""
    file = SCHEMAS / f"v{version}-local-strict" / "_definitions.json"
    return jsonschema_rs.Registry([("https://kubernetes.io/api/_definitions.json", json.loads(file.read_text()))])


def accept(version: str, found: dict) -> None:
    """A field that Kubernetes does not know, or of another type, is a problem."""
    name = f"{found['kind']} {found['metadata']['name']}, Kubernetes {version}"
    if found["kind"] == "ServiceMonitor":
        return  # of the Prometheus operator, whose schemas are not Kubernetes' own
    file = schema_of(version, found)
    expect(file.exists(), f"{name}: there is no schema {file.name}")
    if file.exists():
        validator = jsonschema_rs.validator_for(json.loads(file.read_text()), registry=definitions(version))
        for error in validator.iter_errors(found):
            expect(False, f"{name}: {'/'.join(map(str, error.instance_path))}: {error.message}")


# Values, and what is none.
values = yaml.safe_load((CHART / "values.yaml").read_text())
schema = yaml.safe_load((CHART / "values.schema.json").read_text())
validator = jsonschema_rs.validator_for(schema)
for error in validator.iter_errors(values):
    expect(False, f"values.yaml: {error}")
expect(values.keys() == schema["properties"].keys() - {"global"}, f"keys: {values.keys() ^ schema['properties'].keys()}")
for wrong in ("replicas=2", "image.tga=1", "persistence.accessModes={ReadWriteMany}", "extraArgs={--state=/tmp}", "terminationGracePeriodSeconds=5"):
    expect(render(KUBERNETES[-1], "--set", wrong).returncode != 0, f"{wrong} is accepted")
tokenless = render(KUBERNETES[-1], "--set", "serviceMonitor.enabled=true")
expect("needs token.existingSecret" in tokenless.stderr, f"metrics without a token: {tokenless.stderr}")

chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
expect(chart["version"] == chart["appVersion"] == cargo_version(), "Chart.yaml has the version of Cargo.toml")
linted = run(helm, "lint", "--strict", CHART, "--values", HERE / "full-values.yaml")
expect(linted.returncode == 0, linted.stdout + linted.stderr)

# What comes out.
least = ["--set", "serviceAccount.create=false,networkPolicy.enabled=false,podDisruptionBudget.enabled=false,persistence.enabled=false"]
kinds = {"StatefulSet", "Service", "ConfigMap"}
more = {"ServiceAccount", "NetworkPolicy", "PodDisruptionBudget"}
for version in KUBERNETES:
    for arguments, wanted in (([], kinds | more), (["--values", str(HERE / "full-values.yaml")], kinds | more | {"ServiceMonitor"}), (least, kinds)):
        objects = objects_of(version, *arguments)
        expect({kind for kind, _ in objects} == wanted, f"{arguments}: {objects.keys()}")
        for found in objects.values():
            accept(version, found)

objects = objects_of(KUBERNETES[-1], "--values", str(HERE / "full-values.yaml"))
sets = objects["StatefulSet", "backup-catchment"]["spec"]
pod = sets["template"]["spec"]
container = pod["containers"][0]
labels = sets["template"]["metadata"]["labels"]
for kind, name, selector in (
    ("Service", "backup-catchment", lambda spec: spec["selector"]),
    ("Service", "backup-catchment-pods", lambda spec: spec["selector"]),
    ("NetworkPolicy", "backup-catchment", lambda spec: spec["podSelector"]["matchLabels"]),
    ("PodDisruptionBudget", "backup-catchment", lambda spec: spec["selector"]["matchLabels"]),
):
    expect(selector(objects[kind, name]["spec"]).items() <= labels.items(), f"{kind} {name} does not select the pod")
expect(sets["selector"]["matchLabels"].items() <= labels.items(), "the set does not select its pod")
expect(sets["replicas"] == 1 and ("Service", sets["serviceName"]) in objects, "one pod, with a name on the network")
expect(pod["terminationGracePeriodSeconds"] > 10, "the program has ten seconds to end")
mounted = {mount["name"] for mount in container["volumeMounts"]}
volumes = {volume["name"] for volume in pod["volumes"]} | {claim["metadata"]["name"] for claim in sets["volumeClaimTemplates"]}
expect(mounted == volumes, f"volumes: {mounted ^ volumes}")

# Kubernetes' profile `restricted`.
context = container["securityContext"]
expect(pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, "not restricted")
expect(context["allowPrivilegeEscalation"] is False and context["capabilities"]["drop"] == ["ALL"], "not restricted")
user = f"USER {pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}\n"
expect(user in (DEPLOY / "container/Containerfile").read_text(), f"the image has no {user}")

# What the program is told.
understood(container["args"], "chart")
data = objects["ConfigMap", "backup-catchment"]["data"]
items = {item["key"]: item["path"] for volume in pod["volumes"] if volume["name"] == "config" for item in volume["configMap"]["items"]}
expect(items.keys() == data.keys(), f"files: {items.keys() ^ data.keys()}")
with tempfile.TemporaryDirectory() as directory:
    for key, path in items.items():
        (Path(directory) / path).parent.mkdir(exist_ok=True)
        (Path(directory) / path).write_text(data[key])
    # A rule may name what the other file defines.
    together = Path(directory) / "together.toml"
    together.write_text("\n".join(data.values()))
    done = run(binary(), "config", "check", together)
    expect("2 rule(s), no problem" in done.stdout, f"config: {done.stdout}{done.stderr}")
    expect(sorted(path.name for path in Path(directory).glob("rules.d/*.toml")) == ["orders.toml", "payments.eu.toml"], "rules.d")
finish("chart")
