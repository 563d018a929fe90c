//! The cells, by rows of the failure matrix.

mod commits;
mod compaction;
mod damage;
mod formats;
mod gaps;
mod leaders;
mod logins;
mod members;
mod network;
mod producers;
mod transactions;
mod truncation;
mod zombies;

use super::Cells;

/// Writes all cells down.
pub(crate) fn list(cells: &mut Cells) {
    formats::list(cells);
    compaction::list(cells);
    transactions::list(cells);
    producers::list(cells);
    damage::list(cells);
    truncation::list(cells);
    gaps::list(cells);
    commits::list(cells);
    members::list(cells);
    zombies::list(cells);
    network::list(cells);
    leaders::list(cells);
    logins::list(cells);
}
