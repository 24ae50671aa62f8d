//! What becomes of spans.

use metrics::{Counter, counter};

/// Why a span was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::telemetry) enum Dropped {
    /// The queue is full: the endpoint is slower than the worker, or hangs.
    QueueFull,
    /// The endpoint did not take it.
    NotTaken,
    /// The worker ended first.
    Shutdown,
}

/// The counters of spans, process-wide.
#[derive(Clone)]
pub(in crate::telemetry) struct Spans {
    sent: Counter,
    queue_full: Counter,
    not_taken: Counter,
    shutdown: Counter,
}

impl Spans {
    pub(in crate::telemetry) fn new() -> Self {
        let dropped = |reason: &'static str| counter!("acquit_spans_dropped_total", "reason" => reason);
        let spans = Self {
            sent: counter!("acquit_spans_sent_total"),
            queue_full: dropped("queue_full"),
            not_taken: dropped("not_taken"),
            shutdown: dropped("shutdown"),
        };
        for counter in [&spans.sent, &spans.queue_full, &spans.not_taken, &spans.shutdown] {
            counter.increment(0);
        }
        spans
    }

    pub(in crate::telemetry) fn sent(&self, spans: u64) {
        self.sent.increment(spans);
    }

    pub(in crate::telemetry) fn dropped(&self, why: Dropped, spans: u64) {
        match why {
            Dropped::QueueFull => self.queue_full.increment(spans),
            Dropped::NotTaken => self.not_taken.increment(spans),
            Dropped::Shutdown => self.shutdown.increment(spans),
        }
    }
}
