//! A store that fails: each request is a message that may be lost, refused, late or doubled, and so may its answer.
//!
//! A request that has left takes effect whatever becomes of its sender: the effect runs on a task of its own. Guards are those of the
//! plan's class: atomic, looked at when the request arrives and forgotten when it is done (racy), or ignored.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use catchment::commit::control::Anchor;
use catchment::commit::proof;
use catchment::store::key::Layout;
use catchment::store::layer::StoreLayer;
use catchment::store::memory::MemoryStore;
use catchment::store::{
    BoxFuture, Guard, GuardClass, ListPage, Metadata, ObjectInfo, ObjectStore, OpenUpload, Part, Payload, StoreError, StoreErrorKind,
    StoreResult,
};
use catchment_formats::Missing;
use crc_fast::CrcAlgorithm;
use tokio::sync::oneshot;

use super::fate::{Fate, Kind};
use super::faults::Fault;
use super::vitals::Vitals;
use super::world::World;

/// How long a request takes with which nothing is wrong: the longest way there, and a part of the longest way back.
pub(super) const REQUEST_MAX: Duration = Duration::from_millis(50);

type Effect<T> = Arc<dyn Fn() -> BoxFuture<'static, StoreResult<T>> + Send + Sync>;

/// The store as one process sees it.
pub struct FaultyStore {
    world: Arc<World>,
    inner: Arc<MemoryStore>,
    process: u64,
    vitals: Vitals,
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyStore({})", self.process)
    }
}

impl FaultyStore {
    /// The way of a process to a store.
    pub fn new(world: Arc<World>, inner: Arc<MemoryStore>, process: u64, vitals: Vitals) -> Self {
        Self { world, inner, process, vitals }
    }

    /// Sends a request and waits for its answer. A process that is dead sends nothing. `sent` is what the trace says of the request.
    async fn call<T: Send + fmt::Debug + 'static>(
        &self,
        op: &'static str,
        kind: Kind,
        key: &str,
        sent: String,
        effect: Effect<T>,
    ) -> StoreResult<T> {
        self.vitals.thawed().await;
        if self.vitals.is_dead() {
            return Err(StoreError::new(StoreErrorKind::Unknown, op, key, "the process is dead"));
        }
        let _under_way = self.vitals.begin(op);
        self.world.trace(format_args!("p{} {op} {key} sent: {sent}", self.process));
        let asked = anchored_partition(key).map(|partition| self.world.note_asked_anchor(partition));
        let fate = Fate::of(&self.world, kind);
        let answer = self.send(op, key, effect, fate);
        let mut has_changed_data = false;
        let result = if fate.told_first {
            tokio::time::sleep(fate.after).await;
            Err(fate.error(op, key))
        } else {
            let answer = answer.await;
            has_changed_data = !is_control(key) && matches!(answer, Ok(Ok(_)));
            tokio::time::sleep(fate.after).await;
            if fate.told.is_some() { Err(fate.error(op, key)) } else { answer.unwrap_or_else(|_| Err(fate.error(op, key))) }
        };
        self.vitals.thawed().await;
        match fate.fault {
            // Late and double effects are felt when they land.
            None | Some(Fault::Late | Fault::Twice) => {}
            // A request that was refused, or changed no data, has no effect for its sender to be wrong about.
            Some(Fault::ServerErrorAfter | Fault::ResetAfter) if !has_changed_data => {}
            Some(fault @ (Fault::StoreDown | Fault::StoreDownAnHour | Fault::Denied | Fault::ClockJumped)) => {
                self.world.feel_weather(fault, op)
            }
            Some(fault) => self.world.feel(fault),
        }
        if let (Ok(_), Some(asked)) = (&result, asked) {
            self.world.anchors(|book| book.answer(asked));
        }
        match &result {
            Ok(answer) => self.world.trace(format_args!("p{} {op} {key} answered {}", self.process, brief(answer))),
            Err(e) => self.world.trace(format_args!("p{} {op} {key} answered {:?} {}", self.process, e.kind, e.detail)),
        }
        result
    }

    /// Asks for something of an upload. That somebody else has aborted it is felt by the answer.
    async fn of_upload<T>(&self, upload: String, asked: impl Future<Output = StoreResult<T>>) -> StoreResult<T> {
        let answer = asked.await;
        let is_gone = answer.as_ref().is_err_and(|e| e.kind == StoreErrorKind::NoSuchUpload);
        if is_gone && self.world.unmet(|unmet| unmet.missed(&upload)) {
            self.world.feel(Fault::UploadsAborted);
        }
        answer
    }

    /// The request on its way: a task of its own, which nobody can call back.
    fn send<T: Send + fmt::Debug + 'static>(
        &self,
        op: &'static str,
        key: &str,
        effect: Effect<T>,
        fate: Fate,
    ) -> oneshot::Receiver<StoreResult<T>> {
        let (answers, answer) = oneshot::channel();
        let (world, process, key) = (Arc::clone(&self.world), self.process, key.to_owned());
        tokio::spawn(async move {
            tokio::time::sleep(fate.before).await;
            if !fate.effect {
                let _ = answers.send(Err(fate.error(op, &key)));
                return;
            }
            let result = effect().await;
            world.trace(format_args!("p{process} {op} {key} took effect: {}", brief(&result)));
            if fate.told_first && arrives(&key, &result) {
                world.feel(Fault::Late);
            }
            // A sender that is gone gets no answer.
            let _ = answers.send(result);
            if let Some(again) = fate.again {
                tokio::time::sleep(again).await;
                let result = effect().await;
                world.trace(format_args!("p{process} {op} {key} took effect again: {}", brief(&result)));
                if arrives(&key, &result) {
                    world.feel(Fault::Twice);
                }
            }
        });
        answer
    }

    /// A publishing request by the guard of the plan's class.
    fn publish(
        &self,
        key: &str,
        guard: Guard,
        write: impl Fn(Arc<MemoryStore>, Guard) -> BoxFuture<'static, StoreResult<String>> + Send + Sync + 'static,
        op: &'static str,
    ) -> Effect<String> {
        let (world, inner, key) = (Arc::clone(&self.world), Arc::clone(&self.inner), key.to_owned());
        let write = Arc::new(write);
        Arc::new(move || {
            let (world, inner, key, write) = (Arc::clone(&world), Arc::clone(&inner), key.clone(), Arc::clone(&write));
            Box::pin(async move {
                let guard = match (guard, world.plan.class) {
                    (Guard::IfAbsent, GuardClass::B) => {
                        if inner.head(&key).await?.is_some() {
                            return Err(StoreError::new(StoreErrorKind::Exists, op, &key, "the key exists"));
                        }
                        // Whoever comes meanwhile sees no object either.
                        tokio::time::sleep(world.between(Duration::ZERO, Duration::from_millis(300))).await;
                        Guard::Overwrite
                    }
                    (Guard::IfAbsent, GuardClass::C) => Guard::Overwrite,
                    (guard, _) => guard,
                };
                let etag = write(Arc::clone(&inner), guard).await?;
                if let Some(partition) = anchored_partition(&key) {
                    let anchor = inner.get(&key, None).await?.and_then(|body| serde_json::from_slice::<Anchor>(&body).ok());
                    world.note_anchor(partition, anchor.map(|anchor| anchor.missing).unwrap_or_default());
                }
                world.note_writing(&key, sum_in(&etag), Self::missing_in(&inner, &key).await?);
                Ok(etag)
            })
        })
    }

    /// What an object lists as missing.
    async fn missing_in(inner: &MemoryStore, key: &str) -> StoreResult<Vec<Missing>> {
        if is_control(key) {
            return Ok(Vec::new());
        }
        let seen = proof::look(inner, &Layout::Hive, key).await?;
        Ok(seen.and_then(|(_, proof)| proof).map(|proof| proof.missing).unwrap_or_default())
    }

    fn effect<T>(&self, act: impl Fn(Arc<MemoryStore>) -> BoxFuture<'static, StoreResult<T>> + Send + Sync + 'static) -> Effect<T> {
        let inner = Arc::clone(&self.inner);
        Arc::new(move || act(Arc::clone(&inner)))
    }
}

/// Whether an object is one of those that change as they like.
pub(super) fn is_control(key: &str) -> bool {
    key.starts_with("_catchment/")
}

/// Whether a write of a data object that was on its way is felt: it changes what is there, or meets a guard.
fn arrives<T>(key: &str, result: &StoreResult<T>) -> bool {
    !is_control(key) && result.as_ref().err().is_none_or(|e| e.kind == StoreErrorKind::Exists)
}

/// The partition whose anchor this is.
fn anchored_partition(key: &str) -> Option<i32> {
    let name = key.strip_prefix("_catchment/anchors/")?.strip_suffix(".json")?;
    name.rsplit_once('-')?.1.parse().ok()
}

/// The CRC-64/XZ of an object's bytes, with which the memory store begins its ETag.
fn sum_in(etag: &str) -> u64 {
    let sum = etag.split('-').next().and_then(|sum| u64::from_str_radix(sum, 16).ok());
    sum.expect("the memory store's ETags begin with a sum")
}

/// A result as the trace has it: itself if it is short, else its sum.
fn brief(result: &impl fmt::Debug) -> String {
    const SHORT: usize = 120;
    let text = format!("{result:?}");
    match text.len() {
        0..=SHORT => text,
        len => format!("{len} characters of sum {:016x}", crc_fast::checksum(CrcAlgorithm::Crc64Xz, text.as_bytes())),
    }
}

impl StoreLayer for FaultyStore {
    fn inner(&self) -> &dyn ObjectStore {
        &*self.inner
    }

    fn guard_class_best(&self) -> GuardClass {
        self.world.plan.class
    }

    fn put<'a>(&'a self, key: &'a str, body: Payload, metadata: &'a Metadata, guard: Guard) -> BoxFuture<'a, StoreResult<String>> {
        const OP: &str = "PutObject";
        let sent = brief(&(body.len(), body.crc64(), metadata));
        let (metadata, to) = (metadata.clone(), key.to_owned());
        let write = move |inner: Arc<MemoryStore>, guard| -> BoxFuture<'static, StoreResult<String>> {
            let (body, metadata, to) = (body.clone(), metadata.clone(), to.clone());
            Box::pin(async move { inner.put(&to, body, &metadata, guard).await })
        };
        let effect = self.publish(key, guard, write, OP);
        Box::pin(self.call(OP, Kind::Publish, key, sent, effect))
    }

    fn head<'a>(&'a self, key: &'a str) -> BoxFuture<'a, StoreResult<Option<ObjectInfo>>> {
        let of = key.to_owned();
        let effect = self.effect(move |inner| {
            let of = of.clone();
            Box::pin(async move { inner.head(&of).await })
        });
        Box::pin(self.call("HeadObject", Kind::Read, key, String::new(), effect))
    }

    fn get<'a>(&'a self, key: &'a str, range: Option<std::ops::Range<u64>>) -> BoxFuture<'a, StoreResult<Option<Bytes>>> {
        let (of, sent) = (key.to_owned(), brief(&range));
        let effect = self.effect(move |inner| {
            let (of, range) = (of.clone(), range.clone());
            Box::pin(async move { inner.get(&of, range).await })
        });
        Box::pin(self.call("GetObject", Kind::Read, key, sent, effect))
    }

    fn list<'a>(&'a self, prefix: &'a str, delimiter: bool, after: Option<&'a str>) -> BoxFuture<'a, StoreResult<ListPage>> {
        let sent = brief(&(delimiter, after));
        let (of, after) = (prefix.to_owned(), after.map(str::to_owned));
        let effect = self.effect(move |inner| {
            let (of, after) = (of.clone(), after.clone());
            Box::pin(async move { inner.list(&of, delimiter, after.as_deref()).await })
        });
        Box::pin(self.call("ListObjectsV2", Kind::Read, prefix, sent, effect))
    }

    fn create_upload<'a>(&'a self, key: &'a str, metadata: &'a Metadata, guard: Guard) -> BoxFuture<'a, StoreResult<String>> {
        let sent = brief(metadata);
        let (of, metadata, world, by) = (key.to_owned(), metadata.clone(), Arc::clone(&self.world), self.process);
        let effect = self.effect(move |inner| {
            let (of, metadata, world) = (of.clone(), metadata.clone(), Arc::clone(&world));
            Box::pin(async move {
                let id = inner.create_upload(&of, &metadata, guard).await?;
                world.uploads(|book| book.open(&id, by));
                Ok(id)
            })
        });
        Box::pin(async move {
            let since_faults_stopped = self.world.is_calm();
            let id = self.call("CreateMultipartUpload", Kind::Idempotent, key, sent, effect).await?;
            if since_faults_stopped {
                self.world.uploads(|book| book.know(&id));
            }
            Ok(id)
        })
    }

    fn upload_part<'a>(&'a self, key: &'a str, upload: &'a str, number: u32, body: Payload) -> BoxFuture<'a, StoreResult<Part>> {
        let sent = brief(&(upload, number, body.len(), body.crc64()));
        let (of, id) = (key.to_owned(), upload.to_owned());
        let effect = self.effect(move |inner| {
            let (of, id, body) = (of.clone(), id.clone(), body.clone());
            Box::pin(async move { inner.upload_part(&of, &id, number, body).await })
        });
        Box::pin(self.of_upload(upload.to_owned(), self.call("UploadPart", Kind::Idempotent, key, sent, effect)))
    }

    fn list_parts<'a>(&'a self, key: &'a str, upload: &'a str) -> BoxFuture<'a, StoreResult<Vec<Part>>> {
        let (of, id) = (key.to_owned(), upload.to_owned());
        let effect = self.effect(move |inner| {
            let (of, id) = (of.clone(), id.clone());
            Box::pin(async move { inner.list_parts(&of, &id).await })
        });
        Box::pin(self.of_upload(upload.to_owned(), self.call("ListParts", Kind::Read, key, upload.to_owned(), effect)))
    }

    fn complete_upload<'a>(&'a self, key: &'a str, upload: &'a str, parts: &'a [Part], guard: Guard) -> BoxFuture<'a, StoreResult<String>> {
        const OP: &str = "CompleteMultipartUpload";
        let sent = brief(&(upload, parts));
        let (of, id, parts, world) = (key.to_owned(), upload.to_owned(), parts.to_vec(), Arc::clone(&self.world));
        let write = move |inner: Arc<MemoryStore>, guard| -> BoxFuture<'static, StoreResult<String>> {
            let (of, id, parts, world) = (of.clone(), id.clone(), parts.clone(), Arc::clone(&world));
            Box::pin(async move {
                let etag = inner.complete_upload(&of, &id, &parts, guard).await?;
                world.uploads(|book| book.complete(&id));
                Ok(etag)
            })
        };
        let effect = self.publish(key, guard, write, OP);
        Box::pin(self.of_upload(upload.to_owned(), self.call(OP, Kind::Publish, key, sent, effect)))
    }

    fn abort_upload<'a>(&'a self, key: &'a str, upload: &'a str) -> BoxFuture<'a, StoreResult<()>> {
        let sent = upload.to_owned();
        let (of, upload, world, by) = (key.to_owned(), upload.to_owned(), Arc::clone(&self.world), self.process);
        let effect = self.effect(move |inner| {
            let (of, upload, world) = (of.clone(), upload.clone(), Arc::clone(&world));
            Box::pin(async move {
                inner.abort_upload(&of, &upload).await?;
                world.uploads(|book| book.abort(&upload, Some(by)));
                Ok(())
            })
        });
        Box::pin(self.call("AbortMultipartUpload", Kind::Idempotent, key, sent, effect))
    }

    fn list_uploads<'a>(&'a self, key: &'a str) -> BoxFuture<'a, StoreResult<Vec<OpenUpload>>> {
        let of = key.to_owned();
        let effect = self.effect(move |inner| {
            let of = of.clone();
            Box::pin(async move { inner.list_uploads(&of).await })
        });
        Box::pin(async move {
            let listed = self.call("ListMultipartUploads", Kind::Read, key, String::new(), effect).await?;
            if self.world.is_calm() {
                let order = self.world.order.next();
                self.world.uploads(|book| book.show(self.process, order, &listed));
            }
            Ok(listed)
        })
    }
}
