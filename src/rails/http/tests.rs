#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

mod body;
mod harness;
mod scripted;
mod sockets;
mod table;
mod tls;
