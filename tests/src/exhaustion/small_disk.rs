//! A file system of a few MiB, whose size can be changed: a disk that is full, and a disk on which somebody makes space.

use std::path::Path;

use tempfile::TempDir;

use super::as_root;

/// A tmpfs, unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    dir: TempDir,
}

impl SmallDisk {
    /// A disk of so many KiB.
    ///
    /// # Panics
    /// If this process may not mount: nothing else shows what a full disk does.
    pub fn new(kib: u64) -> Self {
        let disk = Self { dir: tempfile::tempdir().expect("a directory can be made") };
        disk.mount(&["-t", "tmpfs", "-o", &format!("size={kib}k"), "tmpfs"]);
        disk
    }

    /// Makes it larger.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub fn grow(&self, kib: u64) {
        self.mount(&["-o", &format!("remount,size={kib}k")]);
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    fn mount(&self, args: &[&str]) {
        let path = self.path().to_string_lossy();
        let words: Vec<&str> = ["mount"].iter().chain(args).copied().chain([&*path]).collect();
        if let Err(why) = as_root(&words) {
            panic!("a full disk needs the right to mount a tmpfs (root, sudo without a password, or CAP_SYS_ADMIN in a container): {why}");
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = as_root(&["umount", "-l", &self.path().to_string_lossy()]);
    }
}
