//! The end of a run: everything that is stored, compared with what the broker holds, and every version of every object with the first.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use catchment_formats::parquet::ParquetDecoder;
use catchment_formats::{Block, ValueLayout};
use sha2::{Digest, Sha256};

use super::STOP;
use super::bed::Bed;
use super::producing::Producing;
use crate::oracle::{Stored, Truth};
use crate::phases::Dump;

/// What a run came to.
#[derive(Debug)]
#[expect(dead_code, reason = "printed")]
pub(super) struct Figures {
    records: u64,
    aborted: u64,
    objects: usize,
    rewritten: usize,
}

impl Bed {
    /// Ends the run: all instances stop, one last one reads to the end, and everything is compared.
    pub(super) fn finish(&mut self, producer: Producing) -> Figures {
        let (sent, aborted) = producer.stop();
        self.store.set_rules(&[]);
        for n in 0..self.instances.len() {
            if let Some(process) = self.instances[n].take() {
                let exit = process.terminate(STOP);
                // Whoever was started again just now is asked before it can hear: it ends by the signal, and has begun nothing.
                if exit.code().is_some() || !exit.stderr.is_empty() {
                    exit.assert_code(0);
                }
                self.keep(exit);
            }
        }
        let exit = self.backup(&["--until-end"]).run(Duration::from_secs(300));
        exit.assert_code(0);
        self.keep(exit);
        let verify = self.program("verify", &self.url(&format!("{}/", self.topic)), &["--json"]).run(Duration::from_secs(300));
        verify.assert_code(0);
        let report: serde_json::Value = serde_json::from_str(&verify.stdout).expect("verify prints JSON");
        assert_eq!((report["damage"].as_array().map(Vec::len), report["gaps"].as_array().map(Vec::len)), (Some(0), Some(0)), "{report}");
        let dump = self.store.dump();
        let rewritten = self.check_versions(&dump);
        let truth = Truth::read(self.kafka.bootstrap(), &self.topic);
        assert_eq!(truth.len() as u64, sent, "the broker shows what was sent and committed");
        if self.plan.is_raw() {
            self.compare_raw(&truth, &dump)
        } else {
            self.compare_parquet(&truth, &dump)
        }
        let alarm = self.said.iter().find(|said| said.contains("has another end"));
        assert!(alarm.is_none(), "two ends for one start: {}", alarm.map_or("", |s| s));
        Figures { records: sent, aborted, objects: dump.data().count(), rewritten }
    }

    /// No data object changed or went after it was visible. Returns how often one was written again with the same bytes.
    fn check_versions(&self, dump: &Dump) -> usize {
        let mut rewritten = 0;
        for (key, versions) in dump.data() {
            assert!(versions.iter().all(|v| *v == versions[0] && !v.deleted), "{key} changed: {versions:?}");
            rewritten += versions.len() - 1;
        }
        assert!(self.plan.class != "A" || rewritten == 0, "an atomic guard let {rewritten} second writes through");
        rewritten
    }

    fn compare_parquet(&self, truth: &Truth, dump: &Dump) {
        let mut stored = Stored::default();
        for (key, _) in dump.data() {
            let (partition, _) = place(key);
            let mut decoder = ParquetDecoder::new(Bytes::from(self.store.get(key))).unwrap_or_else(|e| panic!("{key}: {e}"));
            let mut block = Block::new(ValueLayout::Plain);
            while decoder.next_block(&mut block).unwrap_or_else(|e| panic!("{key}: {e}")) {
                block.iter().for_each(|record| stored.push_view(partition, &record));
            }
        }
        truth.assert_equals(&stored, &self.topic);
    }

    /// The values by a decoder of the test's own: a length, big-endian, -1 for null, and the bytes.
    fn compare_raw(&self, truth: &Truth, dump: &Dump) {
        let keys: BTreeMap<(i32, i64), &String> = dump.data().map(|(key, _)| (place(key), key)).collect();
        let mut found = Vec::new();
        let mut indices = BTreeMap::<i32, u64>::new();
        for ((partition, _), key) in keys {
            let object = self.store.get(key);
            let mut rest = object.as_slice();
            while let Some((len, tail)) = rest.split_first_chunk::<4>() {
                let len = usize::try_from(i32::from_be_bytes(*len)).ok();
                let (value, tail) = tail.split_at_checked(len.unwrap_or(0)).unwrap_or_else(|| panic!("{key} is torn"));
                let sum = len.map_or_else(|| "null".to_owned(), |_| Sha256::digest(value).iter().map(|b| format!("{b:02x}")).collect());
                let index = indices.entry(partition).or_default();
                found.push(format!("{partition} {index} {sum}"));
                *index += 1;
                rest = tail;
            }
            assert!(rest.is_empty(), "{key} is torn");
        }
        let expected = truth.value_lines(true);
        let differs = found.iter().zip(&expected).find(|(f, e)| f != e);
        assert!(differs.is_none(), "a value differs: {differs:?}");
        assert_eq!(found.len(), expected.len(), "values lost or stored twice at the end");
    }
}

/// Partition and start in a data object's key.
fn place(key: &str) -> (i32, i64) {
    let name = key.rsplit('/').next().unwrap_or_default();
    let mut words = name.split('+').skip(1);
    let mut number = || words.next().and_then(|w| w.split('.').next()).and_then(|w| w.parse::<i64>().ok());
    match (number(), number()) {
        (Some(partition), Some(start)) => (i32::try_from(partition).expect("a partition fits"), start),
        _ => panic!("{key} is no data object's key"),
    }
}
