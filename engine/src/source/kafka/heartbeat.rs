//! Whether the coordinator serves the membership of KIP-848 at all (`group.protocol=consumer`).
//!
//! Place in the flow: asked by the group's control thread until the member has joined. librdkafka sends no heartbeat to a broker that does not know the
//! request, as those before Kafka 4.0, and neither fails nor says a word: the member would wait for its partitions without end.
//!
//! Guarantee: it is refused only after the coordinator has answered something else several times, seconds apart, while no heartbeat was answered in all
//! that time. A coordinator that is away, or that answers a heartbeat with an error, is waited for as ever.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::topic_partition_list::TopicPartitionList;

use crate::error::{Error, ErrorKind};

use super::deadline::Deadline;
use super::errors::MEMBERSHIP_REFUSED;
use super::native;

/// How long until the first question, and between two. Shorter: a broker under load is asked for nothing. Longer: the refusal comes later.
const QUESTION_INTERVAL: Duration = Duration::from_secs(4);

/// How long a question may take: the control thread serves nothing meanwhile, but before it has joined there is nothing to serve.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the coordinator must have answered while the heartbeat was not. Once could be a coordinator that has just come back.
const ANSWERS: u32 = 3;

/// A member that has not been seen to join yet.
#[derive(Debug)]
pub(super) struct FirstHeartbeat {
    next: Deadline,
    answers: u32,
}

impl FirstHeartbeat {
    pub(super) fn awaited() -> Self {
        Self { next: Deadline::after(QUESTION_INTERVAL), answers: 0 }
    }

    /// The coordinator, or a broker on its behalf, has said why it does not answer as hoped.
    pub(super) fn note_error(&mut self) {
        self.answers = 0;
    }

    /// Whether it is settled: `Ok(true)` once the member has joined.
    ///
    /// # Errors
    /// `C0214` if the coordinator answers and does not serve the membership.
    pub(super) fn is_answered<C: ConsumerContext>(&mut self, client: &BaseConsumer<C>) -> Result<bool, Error> {
        if !self.next.has_passed() {
            return Ok(false);
        }
        // Once more behind the question: a heartbeat that was answered in the meantime counts.
        let was_answered = native::member_epoch(client) <= 0 && does_answer(client);
        if native::member_epoch(client) > 0 {
            return Ok(true);
        }
        self.answers = if was_answered { self.answers + 1 } else { 0 };
        self.next = Deadline::after(QUESTION_INTERVAL);
        if self.answers < ANSWERS { Ok(false) } else { Err(unserved("the coordinator answers, but no heartbeat of this protocol")) }
    }
}

/// Whether the coordinator says what the group has committed for some partition that is subscribed to. Without any, there is no heartbeat either.
fn does_answer<C: ConsumerContext>(client: &BaseConsumer<C>) -> bool {
    let subscribed = client.subscription().map(|list| native::rows(&list)).unwrap_or_default();
    let Some(row) = subscribed.into_iter().next() else { return false };
    let mut list = TopicPartitionList::new();
    list.add_partition(&row.topic, 0);
    client.committed_offsets(list, QUESTION_TIMEOUT).is_ok()
}

/// `group.protocol=consumer` with brokers that do not serve it.
pub(super) fn unserved(cause: &str) -> Error {
    Error::new(MEMBERSHIP_REFUSED, ErrorKind::Invalid, "these brokers do not serve group.protocol=consumer (KIP-848)")
        .because(cause)
        .help("leave group.protocol out, or use brokers of Kafka 4.0 or newer")
}
