//! The whole from outside: a real nats-server, the real binary, a file for a store. Each test leaves a reconciliation
//! that finds nothing.
//!
//! `ACQUIT_TEST_BIN` names another build of the binary to be tested, such as a sabotaged one. The worker is a process
//! of its own: it can be killed, stopped and starved like one.
#![cfg(feature = "lab")]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

mod brokers;
mod chaos;
mod checks;
mod cluster;
mod conformance;
mod content;
mod control;
mod dates;
mod dead_letters;
mod doubts;
mod failover;
mod fallback;
mod fleet;
mod guards;
mod held;
mod holders;
mod http_rail;
mod kills;
mod lanes;
mod limits;
mod load;
mod operations;
mod outages;
mod process;
mod pruning;
mod rail;
mod rails;
mod recreated;
mod sample;
mod site;
mod stops;
mod stores;
mod sweep_panic;
mod sweeps;
mod traces;
mod tracking;
mod unknown;
