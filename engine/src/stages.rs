//! Consumers and builders with their inlets: what has threads of its own in production, and what a simulation drives by hand.
//!
//! Place in the flow: made by [`pipeline`](crate::pipeline), which alone knows how they are joined. Both ways of driving go through the same
//! turns and messages; a stage that is stepped never waits.

use crossbeam_channel::Receiver;

use crate::builder::Builder;
use crate::consumer::{Consumer, ConsumerCommand};
use crate::segment::BuilderMessage;

/// The stages of a pipeline.
#[derive(Debug)]
pub struct Stages {
    /// Drain queues into blocks.
    pub consumers: Vec<ConsumerStage>,
    /// Encode blocks.
    pub builders: Vec<BuilderStage>,
}

impl Stages {
    /// Gives every stage one turn; builders get all that they can take. True if any had something to do.
    pub fn step(&mut self) -> bool {
        let mut busy = false;
        for consumer in &mut self.consumers {
            busy |= consumer.step();
        }
        for builder in &mut self.builders {
            while builder.step() {
                busy = true;
            }
        }
        busy
    }
}

/// A consumer, and how it is told things.
#[derive(Debug)]
pub struct ConsumerStage {
    consumer: Consumer,
    commands: Receiver<ConsumerCommand>,
    wake: Receiver<()>,
    core: Option<usize>,
}

impl ConsumerStage {
    /// A consumer that is to run on `core`, if that is named.
    pub fn new(consumer: Consumer, commands: Receiver<ConsumerCommand>, wake: Receiver<()>, core: Option<usize>) -> Self {
        Self { consumer, commands, wake, core }
    }

    /// Serves on this thread until it is told to stop.
    pub fn run(self) {
        pin(self.core);
        self.consumer.run(&self.commands, &self.wake);
    }

    /// Takes the commands that are there and one turn, unless the builder is far behind. True if there was something to do.
    pub fn step(&mut self) -> bool {
        if !self.consumer.has_room() {
            return false;
        }
        while let Ok(command) = self.commands.try_recv() {
            self.consumer.on_command(command);
        }
        self.consumer.turn()
    }
}

/// A builder, and where its messages come from.
#[derive(Debug)]
pub struct BuilderStage {
    builder: Builder,
    messages: Receiver<BuilderMessage>,
    /// Taken, but its lane has no room for what it brings.
    held: Option<BuilderMessage>,
}

impl BuilderStage {
    /// A builder of what comes from `messages`.
    pub fn new(builder: Builder, messages: Receiver<BuilderMessage>) -> Self {
        Self { builder, messages, held: None }
    }

    /// Serves on this thread until all consumers are gone.
    pub fn run(self) {
        self.builder.run(&self.messages);
    }

    /// Takes one message, unless its lane has no room. True if it took one.
    pub fn step(&mut self) -> bool {
        let Some(message) = self.held.take().or_else(|| self.messages.try_recv().ok()) else { return false };
        if self.builder.has_room_for(&message) {
            self.builder.on_message(message);
            return true;
        }
        self.held = Some(message);
        false
    }
}

/// Pins the calling thread. A refusal only costs speed.
fn pin(core: Option<usize>) {
    let Some(core) = core else { return };
    let mut set = nix::sched::CpuSet::new();
    if set.set(core).and_then(|()| nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set)).is_err() {
        tracing::info!(core, "the consumer could not be pinned");
    }
}
