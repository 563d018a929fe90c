//! A group member in a process of its own, for tests that stop or kill one.
//!
//! Arguments: broker, rule, topic, `group.instance.id`. Standard input: `commit PARTITION OFFSET METADATA` a line. Standard output:
//! `assigned N`, `fatal CODE`, and `ok` or `refused ERROR` for each commit. A commit always names the lease by which its partition was
//! assigned first: what a member that lost its partition, and perhaps was given it again since, had at hand.

use std::collections::HashMap;
use std::io::BufRead;
use std::sync::Arc;
use std::time::Duration;

use catchment::config::KafkaSettings;
use catchment::lane::LaneLease;
use catchment::source::kafka::{KafkaCluster, KafkaGroup, ReadShare};
use catchment::source::{Committed, Group, GroupEvent};

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, broker, rule, topic, instance] = &args[..] else { panic!("usage: kafka_member BROKER RULE TOPIC INSTANCE") };
    let mut config = KafkaSettings::plaintext(broker);
    config.properties.insert("group.instance.id".into(), instance.clone());
    config.properties.insert("session.timeout.ms".into(), "6000".into());
    let cluster = KafkaCluster::connect(config, ReadShare { bytes: 8 << 20, partitions: 8 }).await.expect("connect");
    let mut joined = KafkaGroup::join(&cluster, rule, &format!("catchment-{rule}"), std::slice::from_ref(topic)).await.expect("join");

    let (lines, mut input) = tokio::sync::mpsc::channel::<String>(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
    let mut leases: HashMap<i32, Arc<LaneLease>> = HashMap::new();
    loop {
        tokio::select! {
            event = joined.events.recv() => match event {
                Some(GroupEvent::Assigned(new)) => {
                    println!("assigned {}", new.len());
                    for lease in new {
                        leases.entry(lease.tp.partition).or_insert(lease);
                    }
                }
                Some(GroupEvent::Fatal(e)) => println!("fatal {}", e.code),
                None => return,
            },
            line = input.recv() => {
                let Some(line) = line else { break };
                let words: Vec<&str> = line.split(' ').collect();
                let [_, partition, offset, metadata] = words[..] else { panic!("commit PARTITION OFFSET METADATA") };
                let lease = &leases[&partition.parse::<i32>().expect("a partition")];
                let commit = Committed { offset: offset.parse().expect("an offset"), leader_epoch: -1, metadata: metadata.into() };
                match joined.group.commit(lease, commit).await {
                    Ok(()) => println!("ok"),
                    Err(e) => println!("refused {e:?}"),
                }
            }
        }
    }
    joined.handle.close(Duration::from_secs(10)).expect("close");
}
