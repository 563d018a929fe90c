//! Which backup a cell runs, so that its operation is sent at all, and which request of it goes wrong.
//!
//! Two partitions: the first has the window whose request goes wrong, with windows before and after it; the second stands by.

use catchment_formats::{Codec, Encoding, Format, Framing};

use super::cell::{Cell, Moment};
use crate::generate::Profile;
use crate::s3::Op;
use crate::scripted::log::Shape;

/// The topic.
pub(super) const TOPIC: &str = "orders";

/// A window's length, in milliseconds of the records' time.
pub(super) const WINDOW_MS: i64 = 3_600_000;

/// 2025-01-01T00:00:00Z: a window's beginning.
const TIME_START: i64 = 1_735_689_600_000;

/// Offsets of a window.
const OFFSETS: i64 = 20;

/// Size of a value of a window that goes to the store in parts: seven of them make four parts, and a window has about sixteen.
const VALUE_BYTES: usize = 20 << 10;

/// Offsets of each partition: three windows, and a part of one.
pub(super) const APPENDED: [i64; 2] = [3 * OFFSETS, OFFSETS / 2];

/// Which keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keys {
    /// The first object of the first partition.
    First,
    /// A later object of it.
    Later,
    /// The record beside an object.
    Record,
    /// Every one, and every prefix.
    Any,
}

impl Keys {
    /// Whether these keys hold this one.
    pub(super) fn hold(self, key: &str) -> bool {
        if self == Self::Any || key.contains("_catchment/") {
            return self == Self::Any || (self == Self::Record && key.contains("_catchment/objects/"));
        }
        let Some((0, start)) = place_of(key) else { return false };
        match self {
            Self::First => start == 0,
            Self::Later => start > 0,
            Self::Record | Self::Any => false,
        }
    }
}

/// Partition and first offset that an object's key names: `<topic>+<partition>+<20 digits>.<extension>`.
pub(super) fn place_of(key: &str) -> Option<(i32, i64)> {
    let name = key.rsplit('/').next()?;
    let (stem, _) = name.split_once('.')?;
    let mut pieces = stem.rsplit('+');
    let start = pieces.next().filter(|digits| digits.len() == 20)?.parse().ok()?;
    Some((pieces.next()?.parse().ok()?, start))
}

/// What happens before the process that meets the trouble starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prelude {
    /// Nothing.
    None,
    /// Another process dies when this request has arrived, which takes no effect.
    DiesAt(Op, Keys),
    /// Another process stores everything and ends, or is killed; the group forgets its offsets; more records come.
    Finishes {
        /// Whether it ends by itself, and says where it stood.
        ends: bool,
    },
}

/// A backup.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    /// What the records are like.
    pub(super) shape: Shape,
    /// How they are stored.
    pub(super) encoding: Encoding,
    /// What happens first.
    pub(super) prelude: Prelude,
    /// A publishing request whose answer is lost although it took effect, so that what asks for it is sent.
    pub(super) lost: Option<Op>,
    /// What goes wrong.
    pub(super) target: (Op, Keys),
    /// The Complete of the dead process takes effect when the target arrives.
    pub(super) overdue: bool,
}

impl Scene {
    /// The backup that a cell needs.
    pub(super) fn of(cell: &Cell) -> Self {
        use Moment::{After, Before};
        match (cell.op, cell.moment) {
            (Op::PutObject, _) | (Op::DeleteObject, _) => Self::small((cell.op, Keys::Later)),
            (Op::HeadObject, Before) => Self::small((cell.op, Keys::First)),
            (Op::HeadObject, After) => Self { lost: Some(Op::PutObject), ..Self::small((cell.op, Keys::Later)) },
            (Op::CreateMultipartUpload | Op::UploadPart | Op::CompleteMultipartUpload, _) => Self::large((cell.op, Keys::Later)),
            (Op::ListMultipartUploads, Before) => Self::large((cell.op, Keys::First)),
            (Op::ListMultipartUploads, After) | (Op::AbortMultipartUpload, _) => {
                Self { prelude: Prelude::DiesAt(Op::UploadPart, Keys::First), ..Self::large((cell.op, Keys::First)) }
            }
            (Op::GetObject, Before) => Self {
                encoding: Encoding { format: Format::Raw(Framing::Len32), codec: Codec::Zstd(1) },
                prelude: Prelude::DiesAt(Op::PutObject, Keys::Record),
                ..Self::large((cell.op, Keys::Record))
            },
            (Op::GetObject, After) => Self { lost: Some(Op::CompleteMultipartUpload), ..Self::large((cell.op, Keys::Later)) },
            (Op::ListParts, moment) => Self {
                prelude: Prelude::DiesAt(Op::CompleteMultipartUpload, Keys::First),
                overdue: moment == After,
                ..Self::large((cell.op, Keys::First))
            },
            (Op::ListObjects, moment) => {
                Self { prelude: Prelude::Finishes { ends: moment == Before }, ..Self::small((cell.op, Keys::Any)) }
            }
        }
    }

    /// Windows that go to the store in one request.
    fn small(target: (Op, Keys)) -> Self {
        Self::new(Profile { large_values: 0, huge_values_per_million: 0, ..Profile::mixed() }, target)
    }

    /// Windows that go to the store in parts: values that do not compress, nearly all of them of one size, so that each window is large.
    fn large(target: (Op, Keys)) -> Self {
        let profile = Profile { huge_values_per_million: 1_000_000, value_bytes_max: VALUE_BYTES, binary_values: 1000, ..Profile::mixed() };
        Self::new(profile, target)
    }

    fn new(profile: Profile, target: (Op, Keys)) -> Self {
        let step_micros = u64::try_from(WINDOW_MS * 1000 / OFFSETS).expect("a window has a length");
        // Times that stray would close windows where a cell does not want it.
        let profile = Profile { strange_timestamps: 0, ..profile }.with_times(TIME_START, step_micros);
        let shape = Shape::with_holes(profile);
        Self { shape, encoding: Encoding::PARQUET_ZSTD1, prelude: Prelude::None, lost: None, target, overdue: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_apart_by_what_they_name() {
        let (first, later) = ("b/orders/dt=1/orders+0+00000000000000000000.parquet", "b/orders/dt=1/orders+0+00000000000000000020.bin.zst");
        assert_eq!((place_of(first), place_of(later), place_of("b/_catchment/owners/orders.json")), (Some((0, 0)), Some((0, 20)), None));
        let record = "b/_catchment/objects/orders/0/00000000000000000000.json";
        let other = "b/orders/dt=1/orders+1+00000000000000000000.parquet";
        let held = |keys: Keys| [first, later, record, other, "b/orders/"].map(|key| keys.hold(key));
        assert_eq!(held(Keys::First), [true, false, false, false, false]);
        assert_eq!(held(Keys::Later), [false, true, false, false, false]);
        assert_eq!(held(Keys::Record), [false, false, true, false, false]);
        assert_eq!(held(Keys::Any), [true; 5]);
    }
}
