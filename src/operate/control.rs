//! Steering lanes: a pause that the broker keeps, for every worker and over restarts, and orders to the settlement
//! breakers of running workers. Who and why are in the audit stream before anything is done.

pub mod breaker;
mod pause;

pub use pause::{Pausable, Switched, allowed, look, pause, resume};

use super::Trouble;

/// A deed that failed behind its record, in words that say what stands.
fn behind_record(trouble: Trouble, record: u64) -> Trouble {
    match trouble {
        Trouble::Denied { what } => {
            Trouble::Denied { what: format!("{what}; record {record} stands, nothing was done") }
        }
        Trouble::BrokerLost { what } => Trouble::BrokerLost {
            what: format!("{what}; record {record} stands, whether it took effect is not known: run it again"),
        },
        Trouble::Refused { what } => Trouble::Refused { what: format!("{what}; record {record} stands") },
        other @ (Trouble::Store(_) | Trouble::NotThere { .. } | Trouble::BadInput { .. } | Trouble::Local { .. }) => {
            other
        }
    }
}
