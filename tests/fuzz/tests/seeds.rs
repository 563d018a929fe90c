//! The seeds, the golden objects and every input that once failed, fed to the targets without a fuzzer.

use std::path::{Path, PathBuf};

use catchment_fuzz::{TARGETS, feed};

fn files_of(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    entries.map(|entry| entry.expect("the directory can be read").path()).collect()
}

#[test]
fn no_seed_fails() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let golden = files_of(&package.join("../../formats/golden"));
    let mut failures = Vec::new();
    for target in TARGETS {
        let seeds = files_of(&package.join("seeds").join(target.0));
        assert!(seeds.len() >= 3, "{} has {} seeds", target.0, seeds.len());
        for path in seeds.iter().chain(&golden) {
            let input = std::fs::read(path).expect("a seed can be read");
            failures.extend(feed(target, &input).err().map(|panic| format!("{}: {panic}", path.display())));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}
