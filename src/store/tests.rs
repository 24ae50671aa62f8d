//! The store over real SQLite files and a real PostgreSQL.

mod book;
mod check;
mod faults;
mod harness;
mod history;
mod limits;
mod postgres;
mod pruning;
mod rail;
mod reading;
mod tracking;
mod unknown;
