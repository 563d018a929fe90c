"""deploy/debian: the package is built of the program under test, has what it should, and the program in it runs. It is not installed here."""

import os
import re
import subprocess
import tempfile
from pathlib import Path

from common import DEPLOY, ROOT, binary, cargo_version, expect, finish, run, tool

for name in ("dpkg-deb", "dpkg-shlibdeps"):
    tool(name, "dpkg-dev")

with tempfile.TemporaryDirectory() as directory:
    here = Path(directory)
    # Fast: what is tested is what is in it.
    environment = {**os.environ, "CATCHMENT_DEB_COMPRESSION": "-Znone", "SOURCE_DATE_EPOCH": "1700000000"}
    built = run(ROOT / "scripts/package-deb", "--binary", binary(), "--out", here, env=environment)
    expect(built.returncode == 0, built.stderr)
    package = Path(built.stdout.strip())
    expect(package.name.startswith(f"catchment_{cargo_version()}_"), f"its name: {package.name}")
    field = lambda name: run("dpkg-deb", "--field", package, name).stdout.strip()
    expect(field("Version") == cargo_version(), "its version")
    depends = field("Depends")
    for needed in ("libc6 (>=", "adduser", "ca-certificates", "init-system-helpers"):
        expect(needed in depends, f"it depends on {depends}")
    expect(not re.search("@[A-Z_]+@", run("dpkg-deb", "--field", package).stdout), "a field was not filled in")

    run("dpkg-deb", "--raw-extract", package, here / "tree")
    tree = here / "tree"
    contents = {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()}
    for wanted in (
        "usr/bin/catchment",
        "lib/systemd/system/catchment.service",
        "lib/systemd/system/catchment-backup@.service",
        "etc/catchment/catchment.toml",
        "usr/share/doc/catchment/copyright",
        "usr/share/doc/catchment/changelog.gz",
        "usr/share/doc/catchment/docs/deploy.md",
        "usr/share/doc/catchment/prometheus/alerts.yml",
        "usr/share/doc/catchment/grafana/catchment.json",
        "usr/share/man/man1/catchment.1.gz",
        "usr/share/bash-completion/completions/catchment",
        "usr/share/zsh/vendor-completions/_catchment",
        "usr/share/fish/vendor_completions.d/catchment.fish",
    ):
        expect(wanted in contents, f"{wanted} is not in it")
    expect((tree / "etc/catchment/secrets").stat().st_mode & 0o777 == 0o700, "secrets are for root alone")
    configuration = {"/" + path for path in contents if path.startswith("etc/")}
    expect(configuration == set((DEPLOY / "debian/conffiles").read_text().split()), f"conffiles: {configuration}")
    sums = subprocess.run(["md5sum", "--check", "--quiet", "DEBIAN/md5sums"], cwd=tree, capture_output=True, text=True)
    expect(sums.returncode == 0, sums.stdout + sums.stderr)
    for script in ("postinst", "prerm", "postrm"):
        expect(os.access(tree / "DEBIAN" / script, os.X_OK), f"{script} is not executable")
        parsed = run("sh", "-n", tree / "DEBIAN" / script)
        expect(parsed.returncode == 0, f"{script}: {parsed.stderr}")
    version = run(tree / "usr/bin/catchment", "--version")
    expect(version.stdout.startswith(f"catchment {cargo_version()} "), f"catchment --version: {version.stdout}{version.stderr}")
    checked = run(tree / "usr/bin/catchment", "config", "check", tree / "etc/catchment/catchment.toml")
    expect("0 rule(s), no problem" in checked.stdout, f"catchment.toml: {checked.stdout}{checked.stderr}")
    # What its remarks show is right, too.
    example = here / "example.toml"
    lines = (tree / "etc/catchment/catchment.toml").read_text().splitlines()
    example.write_text("\n".join(line.removeprefix("#") for line in lines[lines.index("# [kafka.prod]") :]))
    checked = run(tree / "usr/bin/catchment", "config", "check", example)
    expect("1 rule(s), no problem" in checked.stdout, f"the example of catchment.toml: {checked.stdout}{checked.stderr}")
finish("package")
