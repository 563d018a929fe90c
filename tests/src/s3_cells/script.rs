//! What the server does to each request of a cell, and a count of what it did.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::cell::Cell;
use super::harm::{Gates, Harm};
use super::scene::{Keys, Prelude, Scene};
use crate::gate::Gate;
use crate::s3::{Answer, Fault, Request, State};

/// The plan of one cell.
#[derive(Debug)]
pub(super) struct Script {
    scene: Scene,
    harm: Harm,
    gates: Gates,
    /// Opened when the request has arrived at which the first process dies.
    pub(super) dying: Gate,
    /// Whether the process runs that is to meet the trouble.
    armed: AtomicBool,
    lost: AtomicBool,
    met: AtomicU64,
    /// Requests of the first process that wait for the end.
    held: AtomicUsize,
    server: Weak<State>,
}

impl Script {
    /// Makes a server misbehave as a cell says.
    pub(super) fn install(cell: &Cell, scene: &Scene, server: &Arc<State>) -> Arc<Self> {
        let gates = Gates::default();
        let script = Arc::new(Self {
            scene: scene.clone(),
            harm: Harm::of(cell, &gates),
            gates,
            dying: Gate::default(),
            armed: AtomicBool::new(scene.prelude == Prelude::None),
            lost: AtomicBool::new(false),
            met: AtomicU64::new(0),
            held: AtomicUsize::new(0),
            server: Arc::downgrade(server),
        });
        let plan = Arc::clone(&script);
        server.set_faults(move |request| plan.decide(request));
        script
    }

    /// From now on the trouble is met.
    pub(super) fn arm(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }

    /// The backup is through: what was delayed comes now.
    pub(super) fn release(&self) {
        self.gates.retried.open();
        self.gates.over.open();
    }

    /// How often the trouble was met.
    pub(super) fn fired(&self) -> u64 {
        self.met.load(Ordering::SeqCst).min(self.harm.times)
    }

    /// How often it was to be met.
    pub(super) fn due(&self) -> u64 {
        self.harm.times
    }

    /// Whether a client must give up a request that meets it.
    pub(super) fn is_to_be_felt(&self) -> bool {
        self.harm.is_felt
    }

    /// How many requests of the first process wait for the end.
    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }

    fn decide(&self, request: &Request) -> Fault {
        if !self.armed.load(Ordering::SeqCst) {
            return self.of_the_first_process(request);
        }
        if self.scene.lost == Some(request.op) && Keys::Later.hold(&request.key) && !self.lost.swap(true, Ordering::SeqCst) {
            return Fault::reset(true);
        }
        let (op, keys) = self.scene.target;
        if request.op != op || !keys.hold(&request.key) {
            return Fault::default();
        }
        let met = self.met.fetch_add(1, Ordering::SeqCst);
        if met >= self.harm.times {
            return Fault { opens: Some(self.gates.retried.clone()), ..Fault::default() };
        }
        if let (true, Some(server), Some(id)) = (self.scene.overdue, self.server.upgrade(), &request.upload) {
            server.complete_overdue(id);
        }
        let rate = |takes: Duration| ((request.bytes as f64 / takes.as_secs_f64()) as u64).max(1);
        Fault { body_rate: self.harm.body_takes.map(rate), ..self.harm.fault.clone() }
    }

    fn of_the_first_process(&self, request: &Request) -> Fault {
        match self.scene.prelude {
            Prelude::DiesAt(op, keys) if request.op == op && keys.hold(&request.key) => {
                self.held.fetch_add(1, Ordering::SeqCst);
                self.dying.open();
                Fault { held: Some(self.gates.over.clone()), ..Fault::answered(false, Answer::Reset) }
            }
            _ => Fault::default(),
        }
    }
}
