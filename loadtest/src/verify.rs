//! Whether a backup holds what a production committed: each record once, whole, and nothing that was aborted.
//!
//! Two steps. First `catchment verify URL -b ...` as a child process: objects against their proofs, lanes without holes, each record that Kafka still has
//! compared with the stored one. Then the payloads, which know nothing of offsets and proofs, are held against the production's manifest:
//!
//! - of a local directory (`file:///DIR/`) with Parquet objects they are read from the **objects**;
//! - else from the **topic**, whose committed records the first step has compared with the objects; the counts of both must be equal.
//!
//! The first way does not depend on the engine's reading at all. The second shows as much if `catchment verify` is right.
//!
//! Not done here: nothing is written, and nothing is mended.

use std::process::Output;

use serde::{Deserialize, Serialize};

use crate::audit::{Audit, Findings};
use crate::catchment::Catchment;
use crate::failure::{Failure, Result};
use crate::manifest::Manifest;
use crate::topic::Cluster;
use crate::{objects, reread};

/// Where the payloads were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// In the stored objects.
    Objects,
    /// In the topic, with which the objects were compared.
    Topic,
}

/// What came of a verification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether everything is as it must be.
    pub passed: bool,
    /// Why not, a sentence each.
    pub faults: Vec<String>,
    /// Where the payloads were read.
    pub payloads_read_from: Way,
    /// Objects that `catchment verify` read.
    pub objects: u64,
    /// Their size.
    pub object_bytes: u64,
    /// Records that they hold.
    pub records: u64,
    /// Records that `catchment verify` compared with Kafka.
    pub compared: u64,
    /// What the payloads showed.
    pub payloads: Findings,
}

/// The report of `catchment verify --json`, as far as it is used here.
#[derive(Debug, Default, Deserialize)]
struct Checked {
    objects: u64,
    records: u64,
    bytes: u64,
    compared: u64,
    gaps: Vec<serde_json::Value>,
    damage: Vec<serde_json::Value>,
}

/// Verifies a backup.
///
/// # Errors
/// If it cannot be read to its end. That something is wrong with it is no error but the verdict.
pub fn verify(catchment: &Catchment, url: &str, cluster: &Cluster, manifest: &Manifest) -> Result<Verdict> {
    let mut arguments = vec!["verify".to_owned(), url.to_owned(), "--json".to_owned()];
    arguments.extend(cluster.arguments());
    let (checked, mut faults) = checked(&catchment.output(&arguments)?)?;
    let (payloads, way) = match payloads(url, cluster, manifest) {
        Ok(found) => found,
        // What is known to be damaged need not be readable.
        Err(failure) if !faults.is_empty() => {
            faults.push(format!("the payloads were not read to their end: {}", failure.reason()));
            (Findings::default(), Way::Objects)
        }
        Err(failure) => return Err(failure),
    };
    faults.extend(payloads.faults());
    if checked.records != payloads.read {
        let place = if way == Way::Objects { "objects" } else { "topic" };
        faults.push(format!("catchment verify counts {} records, and the {place} hold {}", checked.records, payloads.read));
    }
    if manifest.was_empty && payloads.foreign > 0 {
        faults.push(format!("{} records are there that this production did not send, and the topic was empty", payloads.foreign));
    }
    Ok(Verdict {
        passed: faults.is_empty(),
        faults,
        payloads_read_from: way,
        objects: checked.objects,
        object_bytes: checked.bytes,
        records: checked.records,
        compared: checked.compared,
        payloads,
    })
}

fn payloads(url: &str, cluster: &Cluster, manifest: &Manifest) -> Result<(Findings, Way)> {
    let mut audit = Audit::new(manifest);
    let stored = objects::directory(url).map(|root| objects::objects(&root)).transpose()?.unwrap_or_default();
    if stored.is_empty() {
        let partitions = i32::try_from(manifest.lanes.len()).unwrap_or(i32::MAX);
        reread::read(cluster, &manifest.topic, partitions, &mut audit)?;
        return Ok((audit.finish(), Way::Topic));
    }
    objects::read(&stored, &manifest.topic, &mut audit)?;
    Ok((audit.finish(), Way::Objects))
}

/// What `catchment verify` found, and what of it is a fault.
fn checked(output: &Output) -> Result<(Checked, Vec<String>)> {
    let said = String::from_utf8_lossy(&output.stderr);
    let Ok(checked) = serde_json::from_slice::<Checked>(&output.stdout) else {
        return Err(Failure::new(format!("catchment verify did not finish ({})", output.status))
            .because(said.trim())
            .help("the code in its message is explained in docs/errors.md"));
    };
    let mut faults = Vec::new();
    let first = |list: &[serde_json::Value]| list.first().map(ToString::to_string).unwrap_or_default();
    if !checked.damage.is_empty() {
        faults.push(format!("catchment verify finds damage in {} places, first {}", checked.damage.len(), first(&checked.damage)));
    }
    if !checked.gaps.is_empty() {
        faults.push(format!("objects list {} ranges as missing, first {}", checked.gaps.len(), first(&checked.gaps)));
    }
    if checked.compared != checked.records {
        faults.push(format!("catchment verify compared {} of {} records with Kafka", checked.compared, checked.records));
    }
    if !output.status.success() && faults.is_empty() {
        faults.push(format!("catchment verify failed ({}): {}", output.status, said.trim()));
    }
    Ok((checked, faults))
}

impl Verdict {
    /// The verdict in a few lines.
    pub fn text(&self) -> String {
        let place = match self.payloads_read_from {
            Way::Objects => "read from the objects",
            Way::Topic => "read from the topic, with which catchment verify compared the objects",
        };
        if self.passed {
            return format!(
                "verified: {} committed records, each stored once and whole ({place}); {} objects",
                self.payloads.committed, self.objects
            );
        }
        let lines: String = self.faults.iter().chain(&self.payloads.examples).map(|line| format!("\n  {line}")).collect();
        format!("NOT verified ({place}):{lines}")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;

    fn output(code: i32, stdout: &str, stderr: &str) -> Output {
        Output { status: ExitStatus::from_raw(code << 8), stdout: stdout.into(), stderr: stderr.into() }
    }

    fn report(damage: &str, gaps: &str, compared: u64) -> String {
        format!(r#"{{"objects":2,"records":9,"bytes":100,"lanes":1,"compared":{compared},"gaps":[{gaps}],"damage":[{damage}],"notes":[]}}"#)
    }

    #[test]
    fn a_clean_report_has_no_fault() {
        let (checked, faults) = checked(&output(0, &report("", "", 9), "")).expect("a report");
        assert_eq!((checked.objects, checked.records, checked.bytes, faults), (2, 9, 100, Vec::<String>::new()));
    }

    #[test]
    fn damage_gaps_and_what_was_not_compared_are_faults() {
        let faults = |code, text: &str| checked(&output(code, text, "")).expect("a report").1.join("; ");
        assert!(faults(4, &report(r#"{"key":"k","kind":"truncated"}"#, "", 9)).contains("truncated"));
        assert!(faults(0, &report("", r#"{"cause":"retention"}"#, 9)).contains("retention"));
        assert!(faults(0, &report("", "", 8)).contains("8 of 9"));
        assert!(faults(5, &report("", "", 9)).contains('5'), "an exit code alone is a fault");
    }

    #[test]
    fn a_verification_without_a_report_is_an_error_that_quotes_it() {
        let failure = checked(&output(5, "", "error[C0301]: the bucket does not answer")).expect_err("no report");
        assert!(failure.to_string().contains("C0301"), "{failure}");
    }
}
