//! A file system of a few MiB, whose size can be changed: a disk that is full, and a disk on which somebody makes space.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

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
        if let Err(why) = run("mount", args, self.path()) {
            panic!("a full disk needs the right to mount a tmpfs (root, sudo without a password, or CAP_SYS_ADMIN in a container): {why}");
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = run("umount", &["-l"], self.path());
    }
}

/// Runs a command of root's, by sudo if it must be.
fn run(name: &str, args: &[&str], path: &Path) -> Result<(), String> {
    let mut why = String::new();
    for words in [&[name][..], &["sudo", "-n", name]] {
        match Command::new(words[0]).args(&words[1..]).args(args).arg(path).output() {
            Ok(out) if out.status.success() => return Ok(()),
            Ok(out) => why += &String::from_utf8_lossy(&out.stderr),
            Err(e) => why += &format!("{}: {e}; ", words[0]),
        }
    }
    Err(why)
}
