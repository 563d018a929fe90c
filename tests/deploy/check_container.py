"""deploy/container: without an engine, what can be held against the repository, and the health check against a running service."""

import contextlib
import fnmatch
import json
import random
import re
import socket
import subprocess
import tempfile
import time
import tomllib

from common import DEPLOY, ROOT, binary, cargo_version, expect, finish, understood

text = (DEPLOY / "container/Containerfile").read_text()
joined = re.sub(r"\\\n", " ", "\n".join(line for line in text.splitlines() if not line.startswith("#")))
steps = [line.split(None, 1) for line in joined.splitlines() if line.strip()]
of = lambda kind: [rest for word, rest in steps if word == kind]

# Base images: pinned by a tag, with the compiler that the repository pins.
arguments = dict(argument.split("=", 1) for argument in of("ARG"))
stages = set()
for image in of("FROM"):
    name, *stage = re.sub(r"\$\{(\w+)\}", lambda found: arguments[found[1]], image).split(" AS ")
    expect(name in stages or re.fullmatch(r"docker\.io/[a-z/]+:[a-z0-9.-]*[0-9a-z]", name), f"{name} is not pinned")
    expect(":latest" not in name and "${" not in name, name)
    stages |= set(stage)
toolchain = tomllib.loads((ROOT / "rust-toolchain.toml").read_text())["toolchain"]["channel"]
expect(arguments["RUST_VERSION"] == toolchain, f"Rust {arguments['RUST_VERSION']}, and rust-toolchain.toml says {toolchain}")

# Sources of COPY are there, and .dockerignore lets them through; the whole workspace comes along, since Cargo reads each member.
allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
expect("\n*\n" in (ROOT / ".dockerignore").read_text(), ".dockerignore begins with nothing")
copied = set()
for copy in of("COPY"):
    words = copy.split()
    if words[0].startswith("--from="):
        expect(words[0][7:] in stages, f"COPY {copy}: there is no such stage")
        continue
    for source in words[:-1]:
        copied.add(source)
        expect((ROOT / source).exists(), f"COPY {copy}: {source} is not there")
        expect(any(fnmatch.fnmatch(source, pattern) for pattern in allowed), f"COPY {copy}: .dockerignore keeps {source} out")
expect(set(allowed) == copied, f".dockerignore and COPY differ: {set(allowed) ^ copied}")
members = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["members"]
expect({member.split("/")[0] for member in members} <= copied, f"members of the workspace: {members}")

# What the program has in it of other folders comes along, too.
for source in (ROOT / "engine/src").rglob("*.rs"):
    for path in re.findall(r'include_(?:str|bytes)!\("([^"]+)"\)', source.read_text()) if source.name != "tests.rs" else []:
        included = (source.parent / path).resolve().relative_to(ROOT.resolve())
        expect(any(included.is_relative_to(copy) for copy in copied), f"{source}: {included} is not copied")

# Packages to build with: those that the scripts install for the same build.
needed = re.search(r"missing\(\) \{(.*?)\n  if ", (ROOT / "scripts/toolchain.sh").read_text(), re.S)[1]
wanted = set(re.findall(r"lacking\+=\(([a-z-]+)\)", needed))
installed = [set(found.split()) for found in re.findall(r"apt-get install -y --no-install-recommends ([a-z0-9 -]+?)\s+&&", joined)]
expect(wanted == installed[0], f"packages of the build: {wanted ^ installed[0]}")
expect(installed[1] == {"ca-certificates"}, f"packages of the image: {installed[1]}")

# How it runs.
expect(of("STOPSIGNAL") == ["SIGTERM"], "STOPSIGNAL")
expect(re.fullmatch(r"[1-9]\d*:[1-9]\d*", of("USER")[-1]), "the user is a number, and not root")
expect(f'org.opencontainers.image.version="{cargo_version()}"' in joined, "the label has another version than Cargo.toml")
understood(json.loads(of("CMD")[0]) + ["--state", "/var/lib/catchment"], "CMD")

# The health check, in the words that the engine would run, on a port of this test's.
check = json.loads(re.search(r"CMD (\[.*\])", of("HEALTHCHECK")[0])[1])
with socket.socket() as free:
    # Not one of those that the system hands out to whoever connects.
    for port in random.sample(range(20000, 32000), 100):
        with contextlib.suppress(OSError):
            free.bind(("127.0.0.1", port))
            break
port = str(port)
check = [word.replace("8520", port) for word in check]


def healthy():
    try:
        return subprocess.run(check, capture_output=True, timeout=30).returncode == 0
    except subprocess.TimeoutExpired:
        return False


with tempfile.TemporaryDirectory() as directory:
    expect(not healthy(), "healthy without a service")
    service = subprocess.Popen([binary(), "serve", "--state", directory, "--listen", f"127.0.0.1:{port}"], stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 30
        while not healthy() and time.monotonic() < until:
            time.sleep(0.1)
        expect(healthy(), "not healthy with a service")
    finally:
        service.terminate()
    expect(service.wait(20) == 0, "SIGTERM does not end it well")
finish("container")
