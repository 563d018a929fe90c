//! File descriptors: the process takes what its hard limit allows, and does not start with fewer than it needs.
//!
//! Every broker, every request under way to the store and every file that is written takes one. A process that runs out of them while it works loses
//! nothing, but it says that brokers and stores cannot be reached, which sends whoever reads it to look in the wrong place. So it is found out first.

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

use crate::error::{Error, ErrorKind, Result, codes};

/// Fewest descriptors: measured, with one broker, four partitions and a store on one machine, a backup works with 32 and starves below.
pub const FILES_MIN: rlim_t = 64;

/// Most descriptors that are asked for: more than any rule needs. Some systems give out a thousand million.
const FILES_WANTED: rlim_t = 65_536;

/// Raises the soft limit of open files towards the hard one.
///
/// # Errors
/// `C0121` if the hard limit is below [`FILES_MIN`].
pub fn provide() -> Result<()> {
    // A system that does not tell its limits has none that could be named.
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return Ok(()) };
    let wanted = raised(soft, hard);
    // A limit that cannot be raised stays what it is, and is judged as that.
    let limit = if wanted > soft && setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_ok() { wanted } else { soft };
    check(limit)
}

fn raised(soft: rlim_t, hard: rlim_t) -> rlim_t {
    soft.max(hard.min(FILES_WANTED))
}

fn check(limit: rlim_t) -> Result<()> {
    if limit >= FILES_MIN {
        return Ok(());
    }
    Err(Error::new(codes::FEW_FILES, ErrorKind::Denied, "this process may open too few files")
        .with("limit", limit)
        .with("needed", FILES_MIN)
        .help("raise the limit of open files for this user (ulimit -n)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_only_rises_and_not_beyond_the_hard_one() {
        assert_eq!(raised(1024, 4096), 4096);
        assert_eq!(raised(1024, rlim_t::MAX), FILES_WANTED);
        assert_eq!(raised(1_000_000, rlim_t::MAX), 1_000_000);
        assert_eq!(raised(20, 20), 20);
    }

    #[test]
    fn too_few_are_named() {
        assert!(check(FILES_MIN).is_ok());
        assert_eq!(check(FILES_MIN - 1).unwrap_err().code, codes::FEW_FILES);
    }
}
