//! The rules of the commit protocol, and nothing that carries them out.
//!
//! ```text
//!   position, window -> which records are one object      key, intent -> where it stands, what pins it      lane -> who may commit
//!   store -> what a store answers     decision, proof -> what that means     strays, faults -> what is remembered     corrupt -> what is passed over
//! ```
//!
//! Place in the flow: below the engine, whose tasks ask these functions before they act. Guarantees: nothing here reads a clock, or knows Kafka's client
//! or an object store's, so that each rule is tested for itself and by mutation in seconds (`scripts/mutants`). [`invariants`] says what all of it must
//! amount to. [`lane`] alone has a lock, blocks on it, and can be waited for.

pub mod corrupt;
pub mod decision;
pub mod error;
pub mod faults;
pub mod intent;
pub mod invariants;
pub mod key;
pub mod lane;
pub mod position;
pub mod proof;
pub mod sabotage;
pub mod sights;
pub mod store;
pub mod strays;
pub mod window;
pub mod words;
