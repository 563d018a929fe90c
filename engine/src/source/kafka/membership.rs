//! How a process joins the consumer group: which memberships keep the fence of the commit protocol (rule A1), and which are refused.
//!
//! | group.protocol | assignor | group.instance.id | |
//! |---|---|---|---|
//! | classic | roundrobin (default), range | set (default: from the slot) or empty | allowed |
//! | classic | cooperative-sticky | empty | allowed |
//! | classic | cooperative-sticky | set | refused: after UNKNOWN_MEMBER_ID on JoinGroup librdkafka rejoins such a member without any revoke, and its old lane's commit is accepted over the new owner's |
//! | classic | cooperative-sticky beside an eager one | any | refused: the two protocols cannot mix |
//! | consumer (KIP-848) | the broker's | set or empty | allowed |

use std::collections::BTreeMap;

use crate::config::Preset;
use crate::error::{Error, ErrorKind};

use super::errors::MEMBERSHIP_REFUSED;

/// A client-side assignor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignor {
    /// Eager; spreads the partitions of all topics evenly.
    RoundRobin,
    /// Eager; consecutive partitions of a topic stay together.
    Range,
    /// Incremental rebalances.
    CooperativeSticky,
}

impl Assignor {
    /// Its name in `partition.assignment.strategy`.
    pub fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "roundrobin",
            Self::Range => "range",
            Self::CooperativeSticky => "cooperative-sticky",
        }
    }
}

/// The protocol that the group speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// JoinGroup and SyncGroup, with an assignor of the client.
    Classic(Assignor),
    /// KIP-848: the broker assigns.
    Consumer,
}

/// Whether the member has a name that outlives the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberName {
    /// Static, named after rule, host and slot.
    Slot,
    /// Static, with this name.
    Given(String),
    /// Dynamic: every start is a rebalance.
    None,
}

/// A membership that keeps the fence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The group's protocol.
    pub protocol: Protocol,
    /// The member's name.
    pub name: MemberName,
}

impl Membership {
    /// Reads the membership out of the properties `group.protocol`, `partition.assignment.strategy` and `group.instance.id`.
    ///
    /// # Errors
    /// `C0214` for a membership that breaks the fence, or that the preset's brokers do not know.
    pub fn of(properties: &BTreeMap<String, String>, preset: Option<Preset>) -> Result<Self, Error> {
        let given = |key: &str| properties.get(key).map(String::as_str);
        let strategy = given("partition.assignment.strategy");
        let protocol = match given("group.protocol").unwrap_or("classic") {
            "classic" => Protocol::Classic(assignor(strategy.unwrap_or("roundrobin"))?),
            "consumer" if matches!(preset, Some(Preset::CKafka | Preset::Redpanda)) => {
                return Err(refused("group.protocol=consumer is not served by the brokers of this preset").help("leave group.protocol out"));
            }
            "consumer" if strategy.is_some() => {
                return Err(refused("partition.assignment.strategy has no meaning with group.protocol=consumer, where the broker assigns")
                    .help("leave one of the two out"));
            }
            "consumer" => Protocol::Consumer,
            other => return Err(refused(format!("group.protocol={other} is not known")).help("use classic or consumer")),
        };
        let cooperative = protocol == Protocol::Classic(Assignor::CooperativeSticky);
        let name = match given("group.instance.id") {
            Some("") => MemberName::None,
            Some(_) if cooperative => {
                return Err(refused("a static member (group.instance.id) must not use cooperative-sticky")
                    .because("such a member can rejoin without any revoke, and an old lane's commit is then accepted over the new owner's")
                    .help("use roundrobin or range, or leave group.instance.id out"));
            }
            Some(name) => MemberName::Given(name.to_owned()),
            None if cooperative => MemberName::None,
            None => MemberName::Slot,
        };
        Ok(Self { protocol, name })
    }
}

fn refused(message: impl Into<String>) -> Error {
    Error::new(MEMBERSHIP_REFUSED, ErrorKind::Invalid, message)
}

fn assignor(strategy: &str) -> Result<Assignor, Error> {
    match strategy {
        "roundrobin" => Ok(Assignor::RoundRobin),
        "range" => Ok(Assignor::Range),
        "cooperative-sticky" => Ok(Assignor::CooperativeSticky),
        other => Err(refused(format!("partition.assignment.strategy={other} is not one of the assignors that keep the fence"))
            .help("use exactly one of roundrobin, range, cooperative-sticky")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(properties: &[(&str, &str)], preset: Option<Preset>) -> Result<Membership, Error> {
        let properties = properties.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Membership::of(&properties, preset)
    }

    fn allowed(properties: &[(&str, &str)]) -> (Protocol, MemberName) {
        let m = of(properties, None).unwrap();
        (m.protocol, m.name)
    }

    fn is_refused(properties: &[(&str, &str)], preset: Option<Preset>) {
        let error = of(properties, preset).unwrap_err();
        assert_eq!((error.code, error.kind), (MEMBERSHIP_REFUSED, ErrorKind::Invalid), "{error}");
    }

    #[test]
    fn default_is_static_roundrobin() {
        assert_eq!(allowed(&[]), (Protocol::Classic(Assignor::RoundRobin), MemberName::Slot));
    }

    #[test]
    fn range_is_allowed_with_a_given_name() {
        let m = allowed(&[("partition.assignment.strategy", "range"), ("group.instance.id", "a")]);
        assert_eq!(m, (Protocol::Classic(Assignor::Range), MemberName::Given("a".into())));
    }

    #[test]
    fn an_empty_name_means_dynamic() {
        assert_eq!(allowed(&[("group.instance.id", "")]), (Protocol::Classic(Assignor::RoundRobin), MemberName::None));
    }

    #[test]
    fn kip_848_is_allowed_static_and_dynamic() {
        assert_eq!(allowed(&[("group.protocol", "consumer")]), (Protocol::Consumer, MemberName::Slot));
        assert_eq!(allowed(&[("group.protocol", "consumer"), ("group.instance.id", "")]), (Protocol::Consumer, MemberName::None));
    }

    #[test]
    fn cooperative_sticky_is_allowed_without_a_name() {
        let dynamic = (Protocol::Classic(Assignor::CooperativeSticky), MemberName::None);
        assert_eq!(allowed(&[("partition.assignment.strategy", "cooperative-sticky")]), dynamic);
        assert_eq!(allowed(&[("partition.assignment.strategy", "cooperative-sticky"), ("group.instance.id", "")]), dynamic);
    }

    #[test]
    fn static_with_cooperative_sticky_is_refused() {
        is_refused(&[("partition.assignment.strategy", "cooperative-sticky"), ("group.instance.id", "a")], None);
    }

    #[test]
    fn mixed_or_unknown_assignors_are_refused() {
        for strategy in ["roundrobin,cooperative-sticky", "range,roundrobin", "sticky", ""] {
            is_refused(&[("partition.assignment.strategy", strategy)], None);
        }
    }

    #[test]
    fn kip_848_is_refused_where_it_cannot_work() {
        is_refused(&[("group.protocol", "consumer"), ("partition.assignment.strategy", "range")], None);
        is_refused(&[("group.protocol", "consumer")], Some(Preset::CKafka));
        is_refused(&[("group.protocol", "consumer")], Some(Preset::Redpanda));
        is_refused(&[("group.protocol", "streams")], None);
    }
}
