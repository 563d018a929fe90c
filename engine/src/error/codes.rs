//! The codes of the command line (01xx), of objects and `verify` (05xx), and those that several places share. All others stand
//! beside their code; `docs/errors.md` has a section for every one, and a test holds the two together.

use super::Code;

/// The command line cannot be understood.
pub const USAGE: Code = Code(101);
/// A config file cannot be read.
pub const CONFIG_UNREADABLE: Code = Code(102);
/// A config file is not TOML.
pub const CONFIG_SYNTAX: Code = Code(103);
/// A key that no section has.
pub const CONFIG_UNKNOWN_KEY: Code = Code(104);
/// A value of a wrong type or form.
pub const CONFIG_VALUE: Code = Code(105);
/// Two settings that do not go together, or one outside its range.
pub const CONFIG_RELATION: Code = Code(106);
/// A rule, Kafka profile or store that is named but not defined.
pub const CONFIG_NAME: Code = Code(107);
/// A setting without which nothing can start.
pub const CONFIG_MISSING: Code = Code(108);
/// A secret that cannot be read.
pub const SECRET_UNREADABLE: Code = Code(109);
/// Standard output cannot be written.
pub const OUTPUT: Code = Code(110);

/// Metrics cannot be served where they should.
pub const METRICS_ADDRESS: Code = Code(111);

/// The process cannot start its threads.
pub const RUNTIME: Code = Code(112);

/// Metrics cannot be pushed as the environment says.
pub const METRICS_PUSH: Code = Code(114);

/// The demo did not get to its end.
pub const DEMO: Code = Code(113);
/// A thread cannot be started.
pub const THREAD: Code = Code(120);
/// Too few files may be open.
pub const FEW_FILES: Code = Code(121);
/// Too few threads may be had.
pub const FEW_THREADS: Code = Code(122);

/// The principal may not ask the cluster this.
pub const NOT_AUTHORISED: Code = Code(204);

/// The group coordinator refuses a commit for good.
pub const COMMIT_REFUSED: Code = Code(403);
/// Another process has this member's `group.instance.id`.
pub const MEMBER_FENCED: Code = Code(404);
/// An object of somebody else stands under a key.
pub const FOREIGN_OBJECT: Code = Code(413);
/// The topic was deleted and created again.
pub const TOPIC_RECREATED: Code = Code(421);
/// The partition ends before what was backed up.
pub const LOG_TRUNCATED: Code = Code(423);

/// `verify` found damage.
pub const VERIFY_DAMAGE: Code = Code(501);
/// Nothing to look at where `verify`, `ls` or `show` was sent.
pub const NOTHING_THERE: Code = Code(502);
/// An object whose footer, frames or pages cannot be read.
pub const OBJECT_UNREADABLE: Code = Code(503);
/// A temporary file for an object cannot be written.
pub const SPOOL: Code = Code(504);
/// The objects cannot be compared with this Kafka.
pub const COMPARE: Code = Code(505);
/// The topic cannot be read for comparison.
pub const COMPARE_READ: Code = Code(506);

/// The service shows no keys and values of records.
pub const NOT_SHOWN: Code = Code(620);
/// The first records of an object take more than may be read to show them.
pub const TOO_LARGE_TO_SHOW: Code = Code(630);
/// The memory budget has no room for another rule.
pub const NO_ROOM: Code = Code(643);

/// A part of the process ended that must not end.
pub const PART_ENDED: Code = Code(902);
