//! The store over real SQLite files.

mod book;
mod faults;
mod harness;
mod history;
mod pruning;
mod rail;
mod reading;
