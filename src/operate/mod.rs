//! What an operator does, callable from the command line and over HTTP.

pub mod check;
pub mod guard;
pub mod provision;
