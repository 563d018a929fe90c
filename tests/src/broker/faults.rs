//! What goes wrong, with which request, and how often.
//!
//! A script sets [`Fault`]s; each counts how often it fired, so that a cell can say that what it is about did happen. Place in the flow:
//! asked once for every request, before it takes effect.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::ApiKey;

use super::cluster::Cluster;
use super::requests::Asked;

/// Which requests a fault is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// All of one kind.
    Every(ApiKey),
    /// All of one kind at one node.
    At(ApiKey, i32),
    /// Fetches of an offset from here on.
    FetchFrom(i64),
    /// Fetches of a partition.
    FetchOf(i32),
    /// OffsetCommits that pin a window.
    Pin,
    /// OffsetCommits that do not.
    Tidy,
    /// OffsetCommits that do not and that stand at the lane's start, before any window.
    Start,
    /// Requests of members that are in the group under this instance id.
    Member(ApiKey, &'static str),
}

/// What happens to such a request.
#[derive(Clone)]
pub enum Act {
    /// It is answered with this error and takes no effect.
    Code(i16),
    /// It takes effect and is answered with this error.
    DoneBut(i16),
    /// It is handled later.
    Delay(Duration),
    /// It is handled once the script [lets go](Cluster::let_go), whatever has become of its sender; what comes behind it on its connection, too.
    Hold,
    /// It takes effect, and is answered later.
    AnswerLate(Duration),
    /// The connection closes; no effect.
    Cut,
    /// It takes effect and the connection closes without an answer.
    DoneAndCut,
    /// It takes effect, and the connection closes after so many bytes of the answer.
    CutInside(usize),
    /// It is never answered, and the connection stays open; no effect.
    Silence,
    /// It takes effect and is never answered.
    DoneInSilence,
    /// The answer comes in pieces of so many bytes, with this pause between them.
    Drip(usize, Duration),
    /// The answer says that the client was throttled for so many milliseconds, and comes after that time.
    Throttle(i32),
    /// Something happens to the cluster first; then the request is handled as usual.
    Happen(Arc<dyn Fn(&mut Cluster) + Send + Sync>),
}

impl Act {
    /// Something that happens to the cluster.
    pub fn happen(event: impl Fn(&mut Cluster) + Send + Sync + 'static) -> Self {
        Self::Happen(Arc::new(event))
    }

    /// Whether the request takes effect.
    pub(super) fn has_effect(&self) -> bool {
        !matches!(self, Self::Code(_) | Self::Cut | Self::Silence)
    }
}

impl fmt::Debug for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "Code({code})"),
            Self::DoneBut(code) => write!(f, "DoneBut({code})"),
            Self::Delay(by) => write!(f, "Delay({by:?})"),
            Self::Hold => f.write_str("Hold"),
            Self::AnswerLate(by) => write!(f, "AnswerLate({by:?})"),
            Self::Cut => f.write_str("Cut"),
            Self::DoneAndCut => f.write_str("DoneAndCut"),
            Self::CutInside(bytes) => write!(f, "CutInside({bytes})"),
            Self::Silence => f.write_str("Silence"),
            Self::DoneInSilence => f.write_str("DoneInSilence"),
            Self::Drip(bytes, pause) => write!(f, "Drip({bytes}, {pause:?})"),
            Self::Throttle(ms) => write!(f, "Throttle({ms})"),
            Self::Happen(_) => f.write_str("Happen"),
        }
    }
}

/// A fault and how often it fired.
#[derive(Clone, Debug)]
pub struct Fault {
    when: When,
    act: Act,
    skip: u32,
    times: u32,
    fired: u32,
}

impl Fault {
    /// A fault of the first such request.
    pub fn once(when: When, act: Act) -> Self {
        Self { when, act, skip: 0, times: 1, fired: 0 }
    }

    /// A fault of the first `times` such requests.
    pub fn times(when: When, act: Act, times: u32) -> Self {
        Self { times, ..Self::once(when, act) }
    }

    /// A fault of every such request.
    pub fn always(when: When, act: Act) -> Self {
        Self::times(when, act, u32::MAX)
    }

    /// The same, after so many such requests have passed.
    #[must_use]
    pub fn after(self, skip: u32) -> Self {
        Self { skip, ..self }
    }

    /// What it does with the request.
    pub(super) fn meet(&mut self, asked: &Asked, node: i32, is_member: impl Fn(&str) -> bool) -> Option<Act> {
        if !self.when.is_about(asked, node, is_member) || self.times == 0 {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        self.times -= 1;
        self.fired += 1;
        Some(self.act.clone())
    }

    /// It does not fire any more.
    pub(super) fn end(&mut self) {
        self.times = 0;
    }

    /// How often it fired.
    pub fn fired(&self) -> u32 {
        self.fired
    }
}

impl When {
    fn is_about(self, asked: &Asked, node: i32, is_member: impl Fn(&str) -> bool) -> bool {
        match self {
            Self::Every(api) => asked.key() == api,
            Self::At(api, at) => asked.key() == api && node == at,
            Self::Member(api, instance) => asked.key() == api && is_member(instance),
            Self::FetchFrom(offset) => fetches(asked).any(|(_, from)| from >= offset),
            Self::FetchOf(partition) => fetches(asked).any(|(of, _)| of == partition),
            Self::Pin => notes(asked).any(is_pin),
            Self::Tidy => notes(asked).any(|note| !is_pin(note)),
            Self::Start => commits(asked).any(|(offset, note)| offset == 0 && !is_pin(note)),
        }
    }
}

fn fetches(asked: &Asked) -> impl Iterator<Item = (i32, i64)> + '_ {
    let request = if let Asked::Fetch(request) = asked { Some(request) } else { None };
    request.into_iter().flat_map(|r| r.topics.iter().flat_map(|t| t.partitions.iter().map(|p| (p.partition, p.fetch_offset))))
}

fn commits(asked: &Asked) -> impl Iterator<Item = (i64, &str)> {
    let request = if let Asked::OffsetCommit(request) = asked { Some(request) } else { None };
    let partitions = request.into_iter().flat_map(|r| r.topics.iter().flat_map(|t| t.partitions.iter()));
    partitions.map(|p| (p.committed_offset, p.committed_metadata.as_deref().unwrap_or_default()))
}

fn notes(asked: &Asked) -> impl Iterator<Item = &str> {
    commits(asked).map(|(_, note)| note)
}

/// Whether a commit's metadata pins a window.
pub(crate) fn is_pin(note: &str) -> bool {
    note.contains("\"E\":")
}
