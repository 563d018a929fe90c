//! Words of the engine that the pages say in the reader's language: states, causes, reasons, where a rule is defined.

use super::catalogue::Texts;
use crate::service::observer::RuleState;
use crate::service::state::{Origin, VerificationState};

/// A state with the class that colours it; the word alone says it, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Badge {
    pub(super) word: &'static str,
    pub(super) class: &'static str,
}

/// All states of a rule, in the order in which they are counted.
pub(super) const STATES: [RuleState; 6] =
    [RuleState::Running, RuleState::Waiting, RuleState::Degraded, RuleState::Failed, RuleState::SourceMissing, RuleState::Paused];

pub(super) fn state(t: &Texts, state: RuleState) -> Badge {
    let (word, class) = match state {
        RuleState::Running => (t.state_running, "good"),
        RuleState::Waiting => (t.state_waiting, "busy"),
        RuleState::Degraded => (t.state_degraded, "warn"),
        RuleState::Paused => (t.state_paused, "quiet"),
        RuleState::Failed => (t.state_failed, "bad"),
        RuleState::SourceMissing => (t.state_source_missing, "bad"),
    };
    Badge { word, class }
}

/// Whether a worker is there.
pub(super) fn presence(t: &Texts, present: bool) -> Badge {
    let (word, class) = if present { (t.of_service.worker_present, "good") } else { (t.of_service.worker_away, "quiet") };
    Badge { word, class }
}

/// Whether a load test was verified.
pub(super) fn verified(t: &Texts, verified: bool) -> Badge {
    let (word, class) = if verified { (t.of_load_tests.is_verified, "good") } else { (t.of_load_tests.is_not_verified, "bad") };
    Badge { word, class }
}

pub(super) fn verification(t: &Texts, state: VerificationState) -> Badge {
    let (word, class) = match state {
        VerificationState::Queued => (t.verification_queued, "busy"),
        VerificationState::Running => (t.verification_running, "busy"),
        VerificationState::Sound => (t.verification_sound, "good"),
        VerificationState::Damaged => (t.verification_damaged, "bad"),
        VerificationState::Unfinished => (t.verification_unfinished, "warn"),
    };
    Badge { word, class }
}

pub(super) fn origin(t: &Texts, origin: Origin) -> &'static str {
    match origin {
        Origin::Api => t.origin_service,
        Origin::File => t.origin_file,
        Origin::Orphan => t.origin_orphan,
    }
}

/// Why a window was closed; one that is not known here as the engine says it.
pub(super) fn closed_by(t: &Texts, reason: &str) -> String {
    let word = match reason {
        "next_slot" => t.closed_next_slot,
        "clock" => t.closed_clock,
        "age" => t.closed_age,
        "size" => t.closed_size,
        "pressure" => t.closed_pressure,
        "recovery" => t.closed_recovery,
        "until_end" => t.closed_until_end,
        "stop" => t.closed_stop,
        "out_of_range" => t.closed_out_of_range,
        other => return other.to_owned(),
    };
    word.to_owned()
}

/// Why records are missing.
pub(super) fn cause(t: &Texts, cause: &str) -> String {
    let word = match cause {
        "retention" => t.cause_retention,
        "truncation" => t.cause_truncation,
        "corrupt_batch" => t.cause_corrupt_batch,
        "topic_recreated" => t.cause_topic_recreated,
        "operator_skip" => t.cause_operator_skip,
        other => return other.to_owned(),
    };
    word.to_owned()
}

/// The level of a line of a log.
pub(super) fn level(t: &Texts, level: &str) -> &'static str {
    match level {
        "error" => t.level_error,
        "warn" => t.level_warn,
        _ => t.level_info,
    }
}

/// What somebody did; what is not known here as it is written down.
pub(super) fn action(t: &Texts, action: &str) -> String {
    let of = &t.of_service;
    let word = match action {
        "create" => of.did_create,
        "edit" => of.did_edit,
        "delete" => of.did_delete,
        "pause" => of.did_pause,
        "resume" => of.did_resume,
        "seal" => of.did_seal,
        "orphan" => of.did_orphan,
        "take over" => of.did_take_over,
        "release" => of.did_release,
        "copy the state" => of.did_copy_state,
        "make token" => of.did_make_token,
        "remove token" => of.did_remove_token,
        "define kafka" => of.did_define_source,
        "redefine kafka" => of.did_redefine_source,
        "forget kafka" => of.did_forget_source,
        "define store" => of.did_define_store,
        "redefine store" => of.did_redefine_store,
        "forget store" => of.did_forget_store,
        other => return other.to_owned(),
    };
    word.to_owned()
}
