//! Queues that move to another reader client, since the batches unfold otherwise than assumed or there are more partitions: no record is lost, comes twice
//! or out of order, and what only the old client knew is not forgotten. The Kafka source on a scripted broker over real sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use catchment::source::kafka::{KafkaCluster, ReadShare};
use catchment::source::{LastRead, PartitionQueue, QueueFault, Source, Wake};
use catchment_tests::broker::Broker;
use catchment_tests::broker::batches::{Batch, Origin, Record};
use catchment_tests::source::{Event, SHARE, connect, next_event, no_wake, read_to_end, tp};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Twice the memory: other limits.
const LARGER: ReadShare = ReadShare { bytes: 2 * SHARE.bytes, ..SHARE };

/// A batch of so many records of 1 KiB.
fn batch(records: usize) -> Batch {
    Batch::of((0..records).map(|n| Record { timestamp: n as i64, value: Some(vec![b'x'; 1024]), ..Record::default() }).collect())
}

/// A broker with a topic of one partition that holds these batches.
async fn broker(batches: impl IntoIterator<Item = Batch>) -> Broker {
    let broker = Broker::start(1).await;
    broker.with(|cluster| {
        cluster.make_topic("t", 1);
        for batch in batches {
            cluster.partition("t", 0).log.append(batch);
        }
    });
    broker
}

/// What the last fetch asked for at most, in bytes.
fn asked(broker: &Broker) -> i32 {
    broker.with(|cluster| cluster.last_fetch_max_bytes)
}

/// Drains the queue until the broker is asked for other responses than `before`. Returns the offsets that came.
fn drain_until_moved(queue: &mut dyn PartitionQueue, broker: &Broker, before: i32) -> Vec<i64> {
    let (began, mut offsets) = (Instant::now(), Vec::new());
    while asked(broker) == before {
        assert!(began.elapsed() < PATIENCE, "the queue has not moved");
        match next_event(queue, Duration::from_millis(20)) {
            Some(Event::Record(record)) => offsets.push(record.offset),
            Some(Event::End(_)) | None => {}
            Some(Event::Fault(fault)) => panic!("{fault:?}"),
        }
    }
    offsets
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_asks_for_more_as_it_sees_that_batches_do_not_unfold() {
    let broker = broker((0..200).map(|_| batch(16))).await;
    let cluster = connect(&broker.addresses()[0], &[]).await;
    let mut queue = cluster.open(&tp("t", 0), 0, -1, no_wake()).expect("open");
    let first = next_event(&mut *queue, PATIENCE);
    assert!(matches!(first, Some(Event::Record(ref record)) if record.offset == 0), "{first:?}");
    let narrow = asked(&broker);
    let (began, mut due) = (Instant::now(), 1);
    while asked(&broker) < 256 << 10 {
        assert!(began.elapsed() < PATIENCE, "{narrow} to {}", asked(&broker));
        let (records, end) = read_to_end(&mut *queue);
        let offsets: Vec<i64> = records.iter().map(|record| record.offset).collect();
        assert_eq!(offsets, (due..end).collect::<Vec<_>>());
        due = end;
        broker.with(|cluster| (0..200).map(|_| cluster.partition("t", 0).log.append(batch(16))).last());
    }
    assert!(narrow < 8 << 10, "{narrow}");
}

/// A reader that counts how often it is woken.
#[derive(Clone, Default)]
struct Woken(Arc<AtomicU32>);

impl Woken {
    fn wake(&self) -> Wake {
        let count = Arc::clone(&self.0);
        Arc::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
        })
    }

    /// Gives the cluster other limits, and waits until the reader is woken for them.
    fn await_other_limits(&self, cluster: &KafkaCluster) {
        let (began, before) = (Instant::now(), self.0.load(Ordering::SeqCst));
        cluster.resize(LARGER);
        while self.0.load(Ordering::SeqCst) == before {
            assert!(began.elapsed() < PATIENCE, "nobody is woken");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_moves_between_two_records_and_a_waiting_reader_is_woken_for_it() {
    let (broker, woken) = (broker([batch(10)]).await, Woken::default());
    let cluster = connect(&broker.addresses()[0], &[]).await;
    let mut queue = cluster.open(&tp("t", 0), 0, -1, woken.wake()).expect("open");
    assert_eq!(read_to_end(&mut *queue).1, 10);
    let before = asked(&broker);
    woken.await_other_limits(&cluster);
    assert_eq!(drain_until_moved(&mut *queue, &broker, before), Vec::<i64>::new());
    broker.with(|cluster| cluster.partition("t", 0).log.append(batch(1)));
    let next = next_event(&mut *queue, PATIENCE);
    let next = if matches!(next, Some(Event::End(10))) { next_event(&mut *queue, PATIENCE) } else { next };
    assert!(matches!(next, Some(Event::Record(ref record)) if record.offset == 10), "{next:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_moves_behind_control_records_notices_that_the_log_was_cut_there() {
    let broker = broker([batch(10).in_transaction(1), Batch::marker(Origin::Commit(1))]).await;
    let (cluster, woken) = (connect(&broker.addresses()[0], &[]).await, Woken::default());
    let mut queue = cluster.open(&tp("t", 0), 0, -1, woken.wake()).expect("open");
    assert_eq!(read_to_end(&mut *queue).1, 11);
    let leader = broker.with(|cluster| std::mem::replace(&mut cluster.partition("t", 0).leader, -1));
    woken.await_other_limits(&cluster);
    assert!(next_event(&mut *queue, Duration::from_millis(100)).is_none(), "it has moved, and there is no leader");
    // The new leader has not seen the marker, and has other records in its place.
    broker.with(|cluster| {
        let partition = cluster.partition("t", 0);
        partition.log.truncate(10);
        partition.log.begin_epoch(1);
        partition.log.append(batch(3));
        partition.leader = leader;
    });
    let fault = loop {
        match next_event(&mut *queue, PATIENCE).expect("it is noticed") {
            Event::Fault(fault) => break fault,
            Event::Record(record) => panic!("record {} passes for one that follows the marker", record.offset),
            Event::End(_) => {}
        }
    };
    assert!(matches!(fault, QueueFault::Truncated { cut: Some(LastRead { end: 10, epoch: 0 }), .. }), "{fault:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_behind_control_records_moves_after_the_next_record() {
    let broker = broker([batch(10).in_transaction(1), Batch::marker(Origin::Commit(1))]).await;
    let cluster = connect(&broker.addresses()[0], &[]).await;
    let mut queue = cluster.open(&tp("t", 0), 0, -1, no_wake()).expect("open");
    assert_eq!(read_to_end(&mut *queue).1, 11);
    let before = asked(&broker);
    cluster.resize(LARGER);
    broker.with(|cluster| cluster.partition("t", 0).log.append(batch(2)));
    let mut offsets = drain_until_moved(&mut *queue, &broker, before);
    while offsets.len() < 2 {
        match next_event(&mut *queue, PATIENCE).expect("both records come") {
            Event::Record(record) => offsets.push(record.offset),
            Event::End(_) => {}
            Event::Fault(fault) => panic!("{fault:?}"),
        }
    }
    assert_eq!(offsets, [11, 12]);
}
