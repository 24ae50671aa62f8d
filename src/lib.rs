//! Acquit: a payment-event worker for NATS JetStream.
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
