//! How many files a rule will make in an hour, and how large, as its review tells it.

use super::catalogue::Texts;
use super::show;
use crate::config::BackupPlan;
use crate::error::Result;
use crate::service::inspection::{Explained, Inspector, Outlook};

/// Topics that are looked at; the others are taken to be like them.
const TOPICS_MAX: usize = 3;

const HOURS: f64 = 24.0;

/// An estimate as it is shown.
#[derive(Debug)]
pub(super) struct Estimate {
    pub(super) text: String,
    /// Whether the files would be small.
    pub(super) small: bool,
    /// With which window they would not be.
    pub(super) advice: Option<String>,
}

/// Looks at some of a rule's topics.
///
/// # Errors
/// If the cluster does not answer.
pub(super) async fn estimate(t: &Texts, inspector: &Inspector, plan: &BackupPlan, explained: &Explained) -> Result<Estimate> {
    Ok(told(t, explained.objects_an_hour, &inspector.outlook(plan, TOPICS_MAX).await?))
}

fn told(t: &Texts, files_at_most: f64, outlook: &Outlook) -> Estimate {
    let files = |files: f64| show::count(files.ceil() as i64);
    let text = if outlook.objects_a_day <= 0.0 {
        t.fill(t.estimate_files, &[&files(files_at_most)])
    } else {
        let sizes = [outlook.object_bytes, outlook.stored_bytes_a_day / HOURS].map(show::size);
        t.fill(t.estimate_sizes, &[&files(outlook.objects_a_day / HOURS), &sizes[0], &sizes[1]])
    };
    let advice = outlook.window_advised.as_ref().map(|window| t.fill(t.window_advised, &[window]));
    Estimate { text, small: outlook.small, advice }
}

#[cfg(test)]
mod tests {
    use super::super::catalogue::ENGLISH;
    use super::*;

    fn outlook(object_bytes: f64, small: bool) -> Outlook {
        Outlook {
            topics: Vec::new(),
            of_topics: 1,
            objects_a_day: 288.0,
            requests_a_day: 288.0,
            bytes_a_day: 1e9,
            stored_bytes_a_day: 288.0 * object_bytes,
            object_bytes,
            small,
            window_advised: small.then(|| "1h".to_owned()),
            obstacle: None,
            held_bytes: None,
        }
    }

    #[test]
    fn an_estimate_warns_of_small_files() {
        let small = told(&ENGLISH, 12.0, &outlook(1024.0, true));
        assert!(small.small && small.text.contains("12") && small.text.contains("1.0 KiB"), "{}", small.text);
        assert!(small.advice.is_some_and(|advice| advice.contains("1h")));
        let large = told(&ENGLISH, 12.0, &outlook(64.0 * 1024.0 * 1024.0, false));
        assert!(!large.small && large.text.contains("64.0 MiB") && large.advice.is_none(), "{}", large.text);
        let nothing = told(&ENGLISH, 12.0, &Outlook { objects_a_day: 0.0, ..outlook(0.0, false) });
        assert!(!nothing.small && nothing.text.contains("12"), "nothing is known of an empty topic");
    }
}
