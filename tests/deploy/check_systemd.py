"""deploy/systemd: systemd finds no mistake in the units, calls them little exposed, and the program understands their command lines."""

import re
import shlex
import sys
import tempfile
from pathlib import Path

from common import DEPLOY, binary, expect, finish, run, tool, understood

analyze = tool("systemd-analyze", "systemd")
version = int(run(analyze, "--version").stdout.split()[1])
if version < 250:
    sys.exit(f"systemd {version} cannot judge units that are not installed: 250 or newer is needed")
UNITS = {"catchment.service": "catchment.service", "catchment-backup@.service": "catchment-backup@orders.service"}
# Tenths of systemd's own scale, on which 100 is a process that may do everything.
EXPOSURE_MAX = 20

for file, instance in UNITS.items():
    text = (DEPLOY / "systemd" / file).read_text()
    with tempfile.TemporaryDirectory() as directory:
        unit = Path(directory) / file
        # As it would be where the package is installed.
        unit.write_text(text.replace("/usr/bin/catchment", str(binary())))
        named = Path(directory) / instance
        verified = run(analyze, "verify", "--man=no", "--recursive-errors=no", named)
        expect(verified.returncode == 0 and not verified.stderr.strip(), f"{file}: {verified.stderr}")
        scored = run(analyze, "security", "--offline=true", f"--threshold={EXPOSURE_MAX}", "--no-pager", named)
        said = (scored.stdout + scored.stderr).strip().splitlines()[-1]
        expect(scored.returncode == 0 and "exposure level" in said, f"{file}: {said}")
        print(f"{instance}: {said.strip('→ ')}")
    command = re.search(r"^ExecStart=/usr/bin/catchment (.*)$", text, re.M)[1]
    understood(shlex.split(command.replace("%i", "orders")), file)
    settings = dict(re.findall(r"^(\w+)=(.*)$", text, re.M))
    expect(int(settings["TimeoutStopSec"]) > 10, f"{file}: the program has ten seconds to end")
    expect({"2", "6"} <= set(settings["RestartPreventExitStatus"].split()), f"{file}: what only fails again is not started again")
    expect(settings["KillSignal"] == "SIGTERM" and settings["Restart"] == "on-failure", f"{file}: how it ends")
finish("systemd")
