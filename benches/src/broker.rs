//! A broker to throw away, for a run that names none: one real Kafka node on loopback, by the script that the tests use.
//!
//! It and its data go when the value is dropped, or when the process goes in whatever way: a watcher beside the node sees to that. What the script needs
//! (Java, and Maven the first time) is not fetched here; without it whoever asked is told how to name a broker.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Failure;

/// From the root of the repository.
const SCRIPT: &str = "tests/services/kafka.sh";

/// A node that ends with this value.
#[derive(Debug)]
pub struct Broker {
    directory: PathBuf,
    address: String,
}

impl Broker {
    /// Starts one with its data in this directory, and waits until it serves.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(directory: &Path) -> Result<Self, Failure> {
        let owner = std::process::id().to_string();
        let out = script("up", directory).args(["--heap", "1g", "--owner", &owner]).stderr(Stdio::inherit()).output();
        let said = out.ok().filter(|out| out.status.success()).map(|out| String::from_utf8_lossy(&out.stdout).into_owned());
        let address = said.as_deref().and_then(address).ok_or_else(|| {
            Failure::Asked(format!(
                "no broker is named and none can be started: name one by -b HOST:PORT, such as that of {SCRIPT} up --dir DIR"
            ))
        })?;
        Ok(Self { directory: directory.to_owned(), address })
    }

    /// Its bootstrap address.
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // If it fails the watcher ends the node with this process.
        let _ = script("down", &self.directory).output();
    }
}

fn script(verb: &str, directory: &Path) -> Command {
    let mut command = Command::new("bash");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(SCRIPT)).args([verb, "--dir"]).arg(directory).stdin(Stdio::null());
    command
}

/// The address without TLS and login among the `KEY=VALUE` lines of the script.
fn address(said: &str) -> Option<String> {
    said.lines().find_map(|line| line.strip_prefix("KAFKA_PLAINTEXT=")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_is_there_and_its_plain_address_is_read() {
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(SCRIPT).is_file());
        let said = "KAFKA_PID=7\nKAFKA_PLAINTEXT=127.0.0.1:20001\nKAFKA_SASL=127.0.0.1:20002\n";
        assert_eq!((address(said), address("KAFKA_PID=7\n")), (Some("127.0.0.1:20001".into()), None));
    }
}
