//! Every row of the table on real sockets.

mod body;
pub(crate) mod harness;
mod sockets;
mod table;
mod tls;
