//! A backup in which nothing is wrong, and how to plant damage in it.

use std::sync::Arc;

use catchment::intent::{CommitNote, Intent};
use catchment::proof::metadata;
use catchment::source::Source as _;
use catchment::store::memory::MemoryStore;
use catchment::store::{Guard, Metadata, ObjectStore, Payload};
use catchment_formats::parquet::ParquetDecoder;
use catchment_formats::{Block, Encoding, LaneId, Missing, RecordView, ValueLayout, segment_encoder};

use crate::memory_store::without;
use crate::scripted::group::Accepted;
use crate::simulation::directed::Directed;
use crate::simulation::ledger::Ledger;
use crate::simulation::plan::Plan;
use crate::simulation::process::TOPIC;
use crate::simulation::verdict::{Verdict, judge};

/// Records of the backup; five make an object.
pub(super) const RECORDS: i64 = 40;

/// All that is judged.
pub(super) struct Case {
    pub(super) directed: Directed,
    pub(super) store: Arc<MemoryStore>,
    pub(super) ledger: Ledger,
    pub(super) accepted: Vec<Accepted>,
    pub(super) keys: Vec<String>,
}

impl Case {
    pub(super) async fn of(plan: Plan) -> Self {
        let mut directed = Directed::planned(plan, RECORDS);
        directed.start().await;
        directed.pass(30).await;
        directed.stop().await;
        assert_eq!(directed.committed(), RECORDS);
        let info = directed.shared.cluster.topic(TOPIC).await.expect("the cluster answers").expect("the topic is there");
        let mut ledger = Ledger::default();
        ledger.incarnate(&info.id, 1);
        ledger.look(&directed.shared.world, &directed.shared.cluster, &directed.tp());
        let (store, accepted) = (Arc::clone(&directed.shared.store), directed.group.accepted());
        let keys = directed.objects().await.into_iter().map(|(key, _)| key).collect();
        let case = Self { directed, store, ledger, accepted, keys };
        let verdict = case.verdict().await;
        assert!(verdict.is_good() && case.keys.len() == 8, "{verdict:?} {:?}", case.keys);
        case
    }

    pub(super) async fn new() -> Self {
        Self::of(Directed::plan()).await
    }

    pub(super) async fn verdict(&self) -> Verdict {
        judge(&self.directed.shared.world, &self.store, &self.ledger, &self.accepted, &[]).await
    }

    /// Fails unless the judge says this.
    pub(super) async fn assert_found(&self, parts: &[&str]) -> Verdict {
        let verdict = self.verdict().await;
        for part in parts {
            assert!(verdict.findings.iter().any(|finding| finding.contains(part)), "{part:?} is not in {:#?}", verdict.findings);
        }
        verdict
    }

    pub(super) async fn body(&self, key: &str) -> Vec<u8> {
        self.store.get(key, None).await.expect("the memory store answers").expect("it stands").to_vec()
    }

    pub(super) async fn metadata(&self, key: &str) -> Metadata {
        self.store.head(key).await.expect("the memory store answers").expect("it stands").metadata
    }

    /// Behind everybody's back.
    pub(super) async fn put(&self, key: &str, body: Vec<u8>, metadata: &Metadata) {
        self.store.put(key, Payload::from_bytes(body), metadata, Guard::Overwrite).await.expect("the memory store takes it");
    }

    /// The same objects but one.
    pub(super) async fn remove(&mut self, gone: &str) {
        self.store = without(&self.store, gone).await;
    }

    /// The object of a key written anew as the object of `lane`, with a value changed or without, and with something listed as missing.
    pub(super) async fn forge(
        &self,
        key: &str,
        lane: impl Fn(&mut LaneId),
        value: Option<&[u8]>,
        missing: &[Missing],
    ) -> (Vec<u8>, Metadata) {
        self.forge_without(key, lane, value, missing, |offset| missing.iter().any(|m| m.covers(offset))).await
    }

    /// The object of a key without the record at an offset, and nothing says so.
    pub(super) async fn hollow(&self, key: &str, without: i64) {
        let (body, described) = self.forge_without(key, |_| (), None, &[], |offset| offset == without).await;
        self.put(key, body, &described).await;
    }

    async fn forge_without(
        &self,
        key: &str,
        lane: impl Fn(&mut LaneId),
        value: Option<&[u8]>,
        missing: &[Missing],
        without: impl Fn(i64) -> bool,
    ) -> (Vec<u8>, Metadata) {
        let mut decoder = ParquetDecoder::new(bytes::Bytes::from(self.body(key).await)).expect("it is sound");
        let (mut block, mut forged, mut body) = (Block::new(ValueLayout::Plain), Block::new(ValueLayout::Plain), Vec::new());
        let (mut of, range) = (decoder.proof().lane.clone(), decoder.proof().range);
        lane(&mut of);
        assert!(decoder.next_block(&mut block).expect("it is sound"));
        for record in block.iter().filter(|r| !without(r.offset)) {
            let value = value.filter(|_| record.offset == range.start + 1).or(record.value);
            forged.push(&RecordView { value, ..record });
        }
        let mut encoder = segment_encoder(&Encoding::PARQUET_ZSTD1, &of, range.start);
        encoder.append(&forged, &mut body);
        let proof = encoder.finish(range.end, missing, &mut body);
        let described = metadata(&proof);
        (body, described)
    }

    /// The first intent that the group has accepted behind the first object, and its place.
    pub(super) fn intent(&self) -> (usize, Intent) {
        let found = self.accepted.iter().enumerate().filter_map(|(n, a)| match CommitNote::parse(&a.commit.metadata) {
            Ok(CommitNote::Intent(intent)) if intent.start > 0 => Some((n, *intent)),
            _ => None,
        });
        found.min_by_key(|(n, _)| *n).expect("windows were pinned")
    }
}
