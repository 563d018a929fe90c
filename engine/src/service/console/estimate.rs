//! How many files a rule will make in an hour, and how large, from what its topics have seen lately.

use super::catalogue::Texts;
use super::show;
use crate::config::BackupPlan;
use crate::error::Result;
use crate::service::inspection::{Explained, Inspector, Sample};

/// Topics that are looked at; the others are taken to be like them.
const TOPICS_MAX: usize = 3;
/// Records of a topic that are weighed.
const SAMPLE: usize = 20;
/// Below this, readers spend their time on opening files.
const SMALL: f64 = (16 << 20) as f64;
/// What a record weighs beside its key and value.
const OVERHEAD: usize = 16;

/// An estimate as it is shown.
#[derive(Debug)]
pub(super) struct Estimate {
    pub(super) text: String,
    /// Whether the files would be small.
    pub(super) small: bool,
}

/// Looks at some of a rule's topics.
///
/// # Errors
/// If the cluster does not answer.
pub(super) async fn estimate(t: &Texts, inspector: &Inspector, plan: &BackupPlan, explained: &Explained) -> Result<Estimate> {
    let (mut bytes, mut looked_at) = (0.0, 0);
    for topic in explained.topics.iter().take(TOPICS_MAX) {
        let extent = inspector.topic(&plan.kafka, &topic.name).await?;
        let samples = inspector.sample(&plan.kafka, &topic.name, SAMPLE, false).await?;
        bytes += extent.records_last_hour as f64 * weight(&samples);
        looked_at += 1;
    }
    let all = bytes * explained.topics.len() as f64 / f64::from(looked_at.max(1));
    Ok(told(t, explained.objects_an_hour, all))
}

/// Bytes of a record on average.
fn weight(samples: &[Sample]) -> f64 {
    let bytes = |sample: &Sample| sample.key_bytes.unwrap_or(0) + sample.value_bytes.unwrap_or(0) + OVERHEAD;
    if samples.is_empty() { 0.0 } else { samples.iter().map(bytes).sum::<usize>() as f64 / samples.len() as f64 }
}

fn told(t: &Texts, files: f64, bytes: f64) -> Estimate {
    let files_text = show::count(files.ceil() as i64);
    if bytes <= 0.0 || files <= 0.0 {
        return Estimate { text: t.fill(t.estimate_files, &[&files_text]), small: false };
    }
    let each = bytes / files;
    Estimate { text: t.fill(t.estimate_sizes, &[&files_text, &show::size(each), &show::size(bytes)]), small: each < SMALL }
}

#[cfg(test)]
mod tests {
    use super::super::catalogue::ENGLISH;
    use super::*;

    #[test]
    fn an_estimate_warns_of_small_files() {
        let small = told(&ENGLISH, 12.0, 12.0 * 1024.0);
        assert!(small.small && small.text.contains("12") && small.text.contains("1.0 KiB"), "{}", small.text);
        let large = told(&ENGLISH, 12.0, 12.0 * 64.0 * 1024.0 * 1024.0);
        assert!(!large.small && large.text.contains("64.0 MiB"), "{}", large.text);
        assert!(!told(&ENGLISH, 12.0, 0.0).small, "nothing is known of an empty topic");
        assert_eq!(weight(&[]), 0.0);
    }
}
