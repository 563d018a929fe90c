"""What the checks of deploy/ share: where things are, and how one fails."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"

problems: list[str] = []


def expect(holds, what: str) -> None:
    """Notes a problem; `finish` tells them all."""
    if not holds:
        problems.append(what)


def finish(name: str) -> None:
    for problem in problems:
        print(f"{name}: {problem}", file=sys.stderr)
    if problems:
        sys.exit(1)
    print(f"{name}: ok")


def tool(name: str, package: str) -> str:
    """A program that must be there: a check that cannot be made has failed."""
    found = shutil.which(name)
    if not found:
        sys.exit(f"{name} is missing: install {package}, or run scripts/test, which does")
    return found


def run(*command, **options) -> subprocess.CompletedProcess:
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)


def binary() -> Path:
    """The program under test."""
    return Path(os.environ["CATCHMENT_BIN"])


def understood(arguments: list[str], where: str) -> None:
    """`--help` keeps a command line from doing anything; what stands before is parsed first."""
    done = run(binary(), *arguments, "--help", stdin=subprocess.DEVNULL)
    expect(done.returncode == 0, f"{where}: catchment {' '.join(arguments)}: {done.stderr.strip()}")


def cargo_version() -> str:
    section = (ROOT / "Cargo.toml").read_text().split("[workspace.package]")[1]
    return re.search(r'^version = "(.*)"', section, re.M)[1]


def documented_metrics() -> set[str]:
    return set(re.findall(r"\bcatchment_[a-z_]+", (ROOT / "docs/metrics.md").read_text()))


def metrics_of(expression: str) -> set[str]:
    """The families that an expression names; samples of histograms count as their family."""
    names = set(re.findall(r"\bcatchment_[a-z_]+", expression))
    return {re.sub(r"_seconds_(bucket|sum|count)$", "_seconds", name) for name in names}


def check_metrics(expression: str, where: str) -> None:
    unknown = metrics_of(expression) - documented_metrics()
    expect(not unknown, f"{where}: docs/metrics.md does not know {sorted(unknown)}")


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings."""
    lines = re.findall(r"^#+ (.*)$", (ROOT / page).read_text(), re.M)
    return {re.sub(r"[^\w -]", "", line.strip().lower()).replace(" ", "-") for line in lines}
