//! The store over real SQLite files.

mod book;
mod faults;
mod harness;
mod history;
mod rail;
mod reading;
