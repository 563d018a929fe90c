//! Visiting all states: stateright for the properties and the shortest counterexamples, and a second pass for what a property of single states
//! cannot say, that no run without faults goes round in circles.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::time::{Duration, Instant};

use stateright::{Checker, Model};

use super::action::Action;
use super::properties::Invariant;
use super::protocol::Protocol;
use super::state::State;

/// A way to a state that breaks an invariant.
#[derive(Clone, Debug)]
pub struct Counterexample {
    /// The invariant.
    pub invariant: Invariant,
    /// How it is broken.
    pub violation: String,
    /// Each state with what happened in it; nothing happens in the last one.
    pub path: Vec<(State, Option<Action>)>,
}

impl Counterexample {
    /// Number of steps.
    pub fn steps(&self) -> usize {
        self.path.len() - 1
    }
}

/// What a search found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Distinct states.
    pub states: usize,
    /// Steps between them, each state's own.
    pub transitions: usize,
    /// Length of the longest of the shortest ways to a state.
    pub depth: usize,
    /// Broken invariants, in their order, each with a shortest way to it.
    pub broken: Vec<Counterexample>,
    /// How long it took.
    pub took: Duration,
}

/// Visits the states of a model breadth first, on one thread so that the ways found are the shortest and always the same. Stops at about
/// `transitions_max`.
pub fn visit(model: &Protocol, transitions_max: Option<usize>) -> Found {
    let began = Instant::now();
    let builder = model.clone().checker().threads(1);
    let builder = match transitions_max {
        Some(max) => builder.target_state_count(max),
        None => builder,
    };
    let checker = builder.spawn_bfs().join();
    let broken = Invariant::ALL.iter().filter_map(|invariant| {
        let path = checker.discovery(invariant.name())?.into_vec();
        let violation = invariant.violation(model, &path.last()?.0)?;
        Some(Counterexample { invariant: *invariant, violation, path })
    });
    let broken = broken.collect();
    let (states, transitions) = (checker.unique_state_count(), checker.state_count());
    Found { states, transitions, depth: checker.max_depth(), broken, took: began.elapsed() }
}

/// Whether every run without faults ends, from whatever state: the steps that go on when nothing fails form no circle. With no state
/// that is stuck before its goal ([`Invariant::Progress`]), every such run then reaches the goal.
pub fn always_ends(model: &Protocol) -> bool {
    have_no_circle(&fault_free_steps(model))
}

/// Whether the steps of these states, each by the numbers of those it leads to, form no circle.
fn have_no_circle(steps: &[Box<[u32]>]) -> bool {
    let mut before = vec![0_u32; steps.len()];
    steps.iter().flatten().for_each(|to| before[*to as usize] += 1);
    let mut free: Vec<usize> = (0..steps.len()).filter(|state| before[*state] == 0).collect();
    let mut ordered = 0;
    while let Some(state) = free.pop() {
        ordered += 1;
        for to in &steps[state] {
            before[*to as usize] -= 1;
            if before[*to as usize] == 0 {
                free.push(*to as usize);
            }
        }
    }
    ordered == steps.len()
}

/// For every reachable state, by number, the states that a step without a fault leads to.
fn fault_free_steps(model: &Protocol) -> Vec<Box<[u32]>> {
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let mut numbers: HashMap<u64, u32> = HashMap::new();
    let (mut todo, mut steps, mut actions) = (VecDeque::new(), Vec::new(), Vec::new());
    let mut number = |state: State, todo: &mut VecDeque<State>| -> u32 {
        let next = u32::try_from(numbers.len()).expect("fewer than four billion states");
        *numbers.entry(hasher.hash_one(&state)).or_insert_with(|| {
            todo.push_back(state);
            next
        })
    };
    for state in model.init_states() {
        number(state, &mut todo);
    }
    while let Some(state) = todo.pop_front() {
        let mut goes_on = Vec::new();
        model.actions(&state, &mut actions);
        for action in actions.drain(..) {
            let progress = model.is_progress(&state, &action);
            let Some(next) = model.next_state(&state, action) else { continue };
            let next = number(next, &mut todo);
            if progress {
                goes_on.push(next);
            }
        }
        steps.push(goes_on.into_boxed_slice());
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circle_is_noticed_wherever_it_lies() {
        let steps = |lists: &[&[u32]]| lists.iter().map(|list| Box::from(*list)).collect::<Vec<_>>();
        assert!(have_no_circle(&steps(&[&[1, 2], &[2], &[]])));
        assert!(!have_no_circle(&steps(&[&[1], &[2], &[1]])), "behind a step into it");
        assert!(!have_no_circle(&steps(&[&[0]])), "a state that leads to itself");
        assert!(!have_no_circle(&steps(&[&[], &[2], &[1]])), "beside an end");
    }
}
