//! Free ports that clients cannot take by accident.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

use super::ServerError;

/// The lowest port tried.
pub(super) const FIRST: u16 = 10_000;
/// The highest port tried: Linux and macOS hand out ephemeral ports above it.
pub(super) const LAST: u16 = 32_000;

/// A port nobody listens on. A port from the ephemeral range would not do: while a killed server is down, a client
/// that keeps reconnecting may be given that port as its own source, connect to itself, and keep the server from
/// coming back. Another process may still take the port first; the server then ends, and the caller tries the next.
pub(super) fn free() -> Result<u16, ServerError> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let span = u32::from(LAST - FIRST);
    // Test binaries run side by side: the process id spreads them, the counter spreads one binary's own servers.
    let start = std::process::id().wrapping_mul(271);
    for _ in 0..span {
        let offset = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % span;
        let Ok(offset) = u16::try_from(offset) else { continue };
        let port = FIRST + offset;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(ServerError::NoPort)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_asked_in_a_row_differ_and_stay_below_the_ephemeral_range() {
        let (a, b) = (free().unwrap(), free().unwrap());
        assert_ne!(a, b);
        assert!((FIRST..=LAST).contains(&a) && (FIRST..=LAST).contains(&b));
    }
}
