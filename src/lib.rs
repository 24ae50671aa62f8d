//! Acquit: a payment-event worker for NATS JetStream.
//!
//! Durable pull consumers take payment events; one worker owns each event through reading, judging and settlement; the
//! acknowledgement goes out only after success is durable; a breaker pauses pulls while settlement fails. The binary
//! `acquit` settles in a double-entry book of its own. This library takes a rail of yours ([`Rail`]), a form of events
//! of yours ([`Decode`]), or a database of yours ([`Backend`]); `examples/custom_rail.rs` is a whole worker,
//! `examples/custom_decoder.rs` reads events of another form, and `acquit::testing` (feature `lab`) proves a rail.
//!
//! # Words
//! A *payment* is known by its `payment_id`; an *event* is one message asking for it; a *delivery* is one hand-over of
//! an event, and a second one is normal. A *lane* is one durable consumer with its schemes, route, breaker and bounds.
//! An *outcome* is final: settled, rejected, or dead-lettered.
//!
//! # Layers
//! A file names only rows above its own, and its own folder; `tests/tidy.rs` checks it.
//!
//! | row | what |
//! | --- | --- |
//! | [`domain`] | pure values: ids, money, accounts, payments, codes, outcomes |
//! | [`intake`] | bytes become a judged event: [`Decode`], [`Rules`], schemes. Pure |
//! | [`resilience`] | backoff, retry policy, breaker. Pure: the time and chance are arguments |
//! | [`telemetry`] | the closed lists of log events and metrics; nothing else logs or counts |
//! | [`store`] | what stands, the book, group commit; the only mint of proofs |
//! | [`broker`] | the only user of the NATS client: pulls, acknowledgements, confirmed publications |
//! | [`rails`] | what a settlement service has to be; one over HTTP; what a check before it has to be |
//! | [`worker`] | the way of one event, top down; the only joins of a state with a delivery |
//! | [`operate`] | provision, check, publish, dead letters, pauses, orders to breakers, payments in doubt, reconcile, explain |
//! | [`ops`] | HTTP for operators: a page, health, metrics, status, orders to breakers |
//! | [`config`] | what was written, what is meant, and every error at once |
//! | [`cli`] | verbs, exit codes, printing |
//! | `lab` | feature `lab`: servers for demo and tests, load, the demo; not in a production image |
//!
//! # Invariants
//! 1. Nothing is lost: what was published is settled, rejected, dead-lettered, a duplicate, or held.
//! 2. One `payment_id` has at most one settlement effect, whatever is redelivered, redriven, restarted or killed.
//! 3. An acknowledgement needs an `Announced`, made only from a PubAck of the outcome event of a [`store::Recorded`],
//!    made only after a commit, or of the event that tells of a [`store::Tracked`] payment. A TERM needs a dead letter that the broker confirmed. A dropped delivery sends nothing.
//! 4. Unknown is not failure: an attempt that may have reached a rail is a [`store::Doubt`], and a doubt is inquired
//!    about; it can be neither submitted nor condemned.
//! 5. A dead letter carries the body byte for byte: condemned in the store, published and confirmed, then terminated.
//! 6. While a gate is shut nothing is pulled, and refusals never shut it.
//! 7. Everything is bounded, in count and in bytes.
//! 8. No name, account number, remittance text or secret is in a log line, a metric, an error or a `Debug` form.
//!
//! The types hold 3 and 4, for this crate as well as for others: `tests/cheats.rs` tries to break them, and the test
//! passes when the compiler refuses. They cannot make a rail tell the truth, a database keep its commit, or a stream
//! with one copy keep its acknowledgements.
//!
//! # Absent on purpose
//! - No `stream()` or `messages()` of the NATS client: they fetch ahead of need and cannot be paused.
//! - No `max_deliver` and no count of deliveries in a decision: a count restarts with the server, a payment must not.
//! - No outbox table: the un-acknowledged message is the outbox. Only what a lane tracks (`in_progress = "track"`) is
//!   acknowledged before its end; the store keeps its message and is swept until the outcome is told.
//! - No retry inside a rail: a second sending is the worker's decision, under the same key.
//! - No order between payments, and no exactly-once outcome events: consumers drop repeats by message id.
//! - No creating or changing of consumers by a worker: `acquit provision` does that.
//! - Not in this version: a second rail to fall back on.

pub mod broker;
pub mod cli;
pub mod config;
pub mod domain;
pub mod intake;
#[cfg(feature = "lab")]
pub mod lab;
pub mod operate;
pub mod ops;
pub mod rails;
pub mod resilience;
pub mod store;
pub mod telemetry;
pub mod worker;

pub use broker::{Broker, BrokerSettings, Credentials, Nats, Streams, Tls};
pub use config::Config;
pub use domain::{Answer, Finding, NotSent, RailKey, RailRef};
pub use intake::{Contract, Decode, Decoded, Raw, Rules, Scheme, Unreadable};
#[cfg(feature = "lab")]
pub use lab::conformance as testing;
pub use rails::http::{Http, HttpSettings};
pub use rails::{CaseRef, Check, Cleared, NoRail, Rail, Terms};
pub use resilience::{BreakerPolicy, RetryPolicy};
pub use store::{Backend, BookPolicy, Order, Postgres, Reader, Sqlite, SqliteSettings, Store, Unknown, WriterLimits};
pub use worker::{Drained, Guard, Lane, Limits, NoGuard, Worker};
