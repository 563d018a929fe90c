//! The encoded parts of a segment, until it is known whether they become one PUT or a multipart upload, and on their way to the store.
//!
//! Place in the flow: between a builder and the lane's publishing. Guarantee: an upload that no intent names is aborted when it is dropped.
//! Parts on their way are bounded over all lanes.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio::task::JoinSet;

use super::driver::{Exit, Lane};
use super::publish::STORE_PAUSE_MAX;
use crate::budget::Reservation;
use crate::clock::Backoff;
use crate::crash::{self, Point};
use crate::error::Error;
use crate::intent::Intent;
use crate::segment::BuiltPart;
use crate::store::{Metadata, ObjectStore, Part, StoreErrorKind, StoreResult, parts};

/// The parts of a segment that is still open: held until it is known whether it becomes one PUT or a multipart upload.
#[derive(Debug)]
pub(super) struct Assembly {
    pub(super) held: Vec<BuiltPart>,
    held_bytes: u64,
    pub(super) directory_ms: Option<i64>,
    pinned: Option<(String, i64)>,
    pub(super) upload: Option<Upload>,
}

/// A multipart upload under way.
#[derive(Debug)]
pub(super) struct Upload {
    store: Arc<dyn ObjectStore>,
    pub(super) key: String,
    pub(super) id: String,
    next_number: u32,
    on_way: JoinSet<StoreResult<Part>>,
    done: Vec<Part>,
    pub(super) named_by_intent: bool,
    open: Gauge,
}

impl Drop for Upload {
    /// An upload that no intent names is of no use to anybody.
    fn drop(&mut self) {
        self.open.dec();
        if self.named_by_intent || self.id.is_empty() {
            return;
        }
        let (store, key, id) = (Arc::clone(&self.store), std::mem::take(&mut self.key), std::mem::take(&mut self.id));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(e) = store.abort_upload(&key, &id).await {
                    tracing::info!(key, error = %e, "an unused upload was not aborted; a later recovery of its key will");
                }
            });
        }
    }
}

impl Assembly {
    /// For the next segment, or for the range of `pinned`.
    pub(super) fn new(pinned: Option<&Intent>) -> Self {
        Self { held: Vec::new(), held_bytes: 0, directory_ms: None, pinned: pinned.map(|i| (i.key.clone(), i.start)), upload: None }
    }

    /// Takes a full part; from the multipart threshold on parts are uploaded at once.
    pub(super) async fn add(&mut self, lane: &mut Lane, part: BuiltPart, directory_ms: Option<i64>) -> Result<(), Exit> {
        self.directory_ms = self.directory_ms.or(directory_ms);
        self.held_bytes += part.payload.len();
        self.held.push(part);
        if self.upload.is_some() || self.held_bytes >= parts::upload_bytes_min(&lane.env.store.limits()) {
            self.ship(lane).await?;
        }
        Ok(())
    }

    /// Under memory pressure one full part is enough to begin an upload.
    pub(super) async fn ship_early(&mut self, lane: &mut Lane) -> Result<(), Exit> {
        if self.held_bytes >= parts::upload_bytes_min_pressed(&lane.env.store.limits()) {
            self.ship(lane).await?;
        }
        Ok(())
    }

    async fn ship(&mut self, lane: &mut Lane) -> Result<(), Exit> {
        // A directory that nothing has named yet keeps the parts here; the consumer closes such a window at the threshold.
        if !lane.env.store.limits().multipart || (self.pinned.is_none() && self.directory_ms.is_none()) {
            return Ok(());
        }
        if self.upload.is_none() {
            let object_key = match &self.pinned {
                Some((key, _)) => key.clone(),
                None => lane.key(lane.start, self.directory_ms, lane.env.rule.encoding.extension()),
            };
            if self.pinned.is_none() {
                // COS refuses an upload on a key that exists; better to learn here whose object that is.
                lane.check_first_key(&object_key).await?;
            }
            self.upload = Some(open_upload(lane, object_key).await?);
        }
        let upload = self.upload.as_mut().expect("opened above");
        for part in self.held.drain(..) {
            upload.send(lane, part).await?;
        }
        self.held_bytes = 0;
        Ok(())
    }
}

async fn open_upload(lane: &mut Lane, object_key: String) -> Result<Upload, Exit> {
    lane.abort_stale_uploads(&object_key, None).await?;
    // The answer may be lost, and with it the id of an upload that is open. The store repeats the request by itself, so that this cannot be
    // seen from here: the uploads of the key are listed once more when it stands, one request for each window of this size.
    lane.history.strays.expect(&object_key, None);
    let guard = lane.env.rule.guard();
    let none = Metadata::new();
    crash::point(Point::BeforeCreateUpload);
    let id = lane.until_answered("CreateMultipartUpload", || lane.env.store.create_upload(&object_key, &none, guard)).await?;
    crash::point(Point::AfterCreateUpload);
    lane.env.metrics.open_uploads.inc();
    let open = lane.env.metrics.open_uploads.clone();
    Ok(Upload {
        store: Arc::clone(&lane.env.store),
        key: object_key,
        id,
        next_number: 1,
        on_way: JoinSet::new(),
        done: Vec::new(),
        named_by_intent: false,
        open,
    })
}

impl Upload {
    /// Sends a part as soon as there is room among the parts on their way.
    pub(super) async fn send(&mut self, lane: &Lane, part: BuiltPart) -> Result<(), Exit> {
        while let Some(done) = self.on_way.try_join_next() {
            self.done.push(part_done(done)?);
        }
        let room = Arc::clone(&lane.env.parts_in_flight).acquire_owned().await.map_err(|_| Exit::Dead)?;
        let (number, store, clock) = (self.next_number, Arc::clone(&self.store), Arc::clone(&lane.env.clock));
        let (object_key, id) = (self.key.clone(), self.id.clone());
        self.next_number += 1;
        self.on_way.spawn(async move {
            let _room = room;
            let BuiltPart { payload, reservation } = part;
            let _held: Reservation = reservation;
            let mut backoff = Backoff::new(Duration::from_millis(200), STORE_PAUSE_MAX);
            loop {
                crash::soon(Point::PartSent);
                match store.upload_part(&object_key, &id, number, payload.clone()).await {
                    // A conflict is with another request that is under way, and not with an object: a part carries no guard in any class, and
                    // whether the key is free is only asked by the Complete. Sending it again replaces the same bytes.
                    Err(e) if matches!(e.kind, StoreErrorKind::Unknown | StoreErrorKind::Denied | StoreErrorKind::Conflict) => {
                        tracing::warn!(error = %e, "a part was not uploaded yet");
                        backoff.wait(&*clock).await;
                    }
                    answer => {
                        crash::point(Point::AfterPart);
                        return answer;
                    }
                }
            }
        });
        Ok(())
    }

    /// Waits for all parts.
    pub(super) async fn finish(&mut self) -> Result<Vec<Part>, Exit> {
        while let Some(done) = self.on_way.join_next().await {
            self.done.push(part_done(done)?);
        }
        let mut parts = std::mem::take(&mut self.done);
        parts.sort_by_key(|p| p.number);
        Ok(parts)
    }
}

fn part_done(done: Result<StoreResult<Part>, tokio::task::JoinError>) -> Result<Part, Exit> {
    match done {
        Ok(Ok(part)) => Ok(part),
        Ok(Err(e)) if e.kind == StoreErrorKind::NoSuchUpload => Err(Exit::Restart(format!("the upload is gone: {e}"))),
        Ok(Err(e)) => Err(Error::from(e).into()),
        Err(e) => Err(Exit::Restart(format!("a part's upload failed: {e}"))),
    }
}
