//! The store over real SQLite files.

mod book;
mod faults;
mod harness;
mod history;
mod measure;
mod rail;
mod reading;
