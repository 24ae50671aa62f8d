//! What an operator does: provision and check, publish, look at dead letters and send them again, compare everything
//! with everything, tell a payment's life, decide payments in doubt. Callable from a command line and over HTTP:
//! options in, plain values out, nothing printed.

pub mod audit;
pub mod check;
pub mod control;
pub mod dlq;
pub mod explain;
pub mod guard;
pub mod provision;
pub mod publish;
pub mod reconcile;
mod trouble;
pub mod unknown;

pub use audit::Mandate;
pub use trouble::Trouble;
