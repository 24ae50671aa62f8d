//! What holds for the process as a whole.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use super::GROUP;

/// Process-wide gauges and counters.
pub(crate) struct Process {
    pub(crate) connected: Gauge,
    pub(crate) reconnects: Counter,
    pub(crate) log_bytes: Gauge,
    pub(crate) unknown: Gauge,
    group: Histogram,
    commit: Histogram,
    pruned: [Counter; 3],
}

impl Process {
    pub(crate) fn new() -> Self {
        Self {
            connected: gauge!("acquit_nats_connected"),
            reconnects: counter!("acquit_nats_reconnects_total"),
            log_bytes: gauge!("acquit_store_log_bytes"),
            unknown: gauge!("acquit_settlement_unknown"),
            group: histogram!(GROUP),
            commit: histogram!("acquit_store_commit_duration_seconds"),
            pruned: ["events", "attempts", "notes"].map(|table| {
                let counter = counter!("acquit_store_pruned_rows_total", "table" => table);
                counter.increment(0);
                counter
            }),
        }
    }

    pub(crate) fn pruned(&self, events: u64, attempts: u64, notes: u64) {
        for (counter, rows) in self.pruned.iter().zip([events, attempts, notes]) {
            counter.increment(rows);
        }
    }

    pub(crate) fn group(&self, size: u32, took: Duration) {
        self.group.record(f64::from(size));
        self.commit.record(took);
    }

    /// What falls short of production durability: 1 where it does.
    pub(crate) fn shortfall(&self, reason: &'static str, is: bool) {
        gauge!("acquit_durability_shortfall", "reason" => reason).set(f64::from(u8::from(is)));
    }
}
