"""deploy/compose: the schema of the Compose specification accepts it, its parts name each other rightly, and the program its arguments and its config. No engine is
at hand to run it."""

import importlib.util
import json
import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import jsonschema_rs
import tomllib
import yaml

from common import DEPLOY, binary, expect, finish, run, understood

COMPOSE = DEPLOY / "compose"
# Of the package, only the schema is used: its code is not maintained any more.
SCHEMA = Path(importlib.util.find_spec("compose").submodule_search_locations[0]) / "config/compose_spec.json"

composed = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
config = tomllib.loads((COMPOSE / "catchment.toml").read_text())
services = composed["services"]

# The schema is older than the key. Without a name of its own the project would be that of any other directory `compose`.
expect(composed.pop("name", "").startswith("catchment-"), "the project has no name of its own")
for error in jsonschema_rs.validator_for(json.loads(SCHEMA.read_text())).iter_errors(composed):
    expect(False, f"{'/'.join(map(str, error.instance_path))}: {error.message}")

# Nothing is open to the network, and nothing changes by itself.
for name, service in services.items():
    for port in service.get("ports", []):
        expect(port.startswith("127.0.0.1:"), f"{name}: {port} is published to the network")
    if "image" in service:
        expect(re.fullmatch(r"docker\.io/[a-z]+/[a-z]+:\S*\d\S*", service["image"]), f"{name}: {service['image']} is not pinned")
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        there = (COMPOSE / source).exists() if source.startswith(".") else source in composed["volumes"]
        expect(there, f"{name}: there is no volume {source}")
    for other, wanted in service.get("depends_on", {}).items():
        expect(other in services, f"{name} depends on {other}, which is not there")
        expect(wanted["condition"] != "service_healthy" or "healthcheck" in services[other], f"{other} has no health check to wait for")

# Catchment: built from here, understood, and pointed to the other two.
catchment = services["catchment"]
build = catchment["build"]
expect((COMPOSE / build["context"] / build["dockerfile"]).exists(), "the container file is elsewhere")
understood([*catchment["command"], "--state", "/var/lib/catchment"], "compose.yaml")
checked = run(binary(), "config", "check", COMPOSE / "catchment.toml")
expect(checked.returncode == 0, f"catchment.toml: {checked.stderr}")

advertised = next(word for word in services["redpanda"]["command"] if word.startswith("--advertise-kafka-addr="))
inside = re.search(r"inside://([\w.:]+)", advertised)[1]
expect(config["kafka"]["redpanda"]["brokers"] == [inside], f"Redpanda is inside at {inside}")
expect(inside.split(":")[0] in services, f"no service has the name of {inside}")
outside = re.search(r"outside://([\w.:]+)", advertised)[1]
expect(f"{outside}:9092" in services["redpanda"]["ports"], f"Redpanda is outside at {outside}")

url = urlsplit(config["store"]["minio"]["url"])
endpoint = urlsplit(parse_qs(url.query)["endpoint"][0])
expect(f"mkdir -p /data/{url.netloc} " in services["minio"]["command"][0], f"nobody makes the bucket {url.netloc}")
expect(endpoint.hostname in services and f"--address :{endpoint.port} " in services["minio"]["command"][0], f"no service is at {endpoint.netloc}")
server, client = services["minio"]["environment"], catchment["environment"]
expect(
    (server["MINIO_ROOT_USER"], server["MINIO_ROOT_PASSWORD"]) == (client["AWS_ACCESS_KEY_ID"], client["AWS_SECRET_ACCESS_KEY"]),
    "Catchment has other credentials than MinIO",
)
finish("compose")
