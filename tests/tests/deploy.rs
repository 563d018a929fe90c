//! What `deploy/` holds is kept true: container file, compose file, systemd units, Helm chart, Debian package, alerts and dashboard, each by the tool that will read it
//! as far as one can be had here. The checks are programs, `tests/deploy/check_*.py`; a tool that is missing fails them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use catchment_tests::process::binary;
use catchment_tests::readers::python;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs `check_NAME.py`, which names every problem.
#[track_caller]
fn check(name: &str) {
    let out = Command::new(python())
        .arg(root().join(format!("tests/deploy/check_{name}.py")))
        .env("CATCHMENT_BIN", binary())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .output()
        .expect("Python runs");
    let said = String::from_utf8_lossy(&out.stdout);
    let complaints = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && said.contains(&format!("{name}: ok")), "{said}{complaints}");
}

#[test]
fn the_container_file_fits_the_repository_and_its_health_check_a_service() {
    check("container");
}

#[test]
fn the_compose_file_fits_its_schema_and_its_parts_each_other() {
    check("compose");
}

#[test]
fn systemd_takes_the_units_and_calls_them_little_exposed() {
    check("systemd");
}

#[test]
fn helm_renders_the_chart_and_kubernetes_schemas_accept_it() {
    check("chart");
}

#[test]
fn the_debian_package_holds_a_program_that_runs() {
    check("package");
}

#[test]
fn each_alert_fires_when_it_should_and_is_explained() {
    check("alerts");
}

#[test]
fn the_dashboard_shows_every_metric_by_expressions_that_parse() {
    check("dashboard");
}
