//! What every metric means, as `/metrics` says it.

use metrics::{describe_counter, describe_gauge, describe_histogram, gauge};

use super::{AGE, GROUP};

/// Says what every metric means.
pub(in crate::telemetry) fn describe() {
    for (name, help) in COUNTERS {
        describe_counter!(*name, *help);
    }
    for (name, help) in GAUGES {
        describe_gauge!(*name, *help);
    }
    for (name, help) in HISTOGRAMS {
        describe_histogram!(*name, *help);
    }
    gauge!("acquit_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

const COUNTERS: &[(&str, &str)] = &[
    ("acquit_messages_received_total", "Deliveries taken from the broker."),
    ("acquit_messages_finished_total", "Deliveries that came to an end, by how."),
    ("acquit_checks_total", "Answers of the check before settlement, by what it said."),
    ("acquit_validation_failures_total", "Events that broke a rule, by the leading code."),
    ("acquit_settlement_requests_total", "Calls of the settlement route, by what became of them."),
    ("acquit_rail_calls_total", "Submissions to a rail, by what it answered."),
    ("acquit_acks_total", "Acknowledgements sent, by kind and whether the broker confirmed them."),
    ("acquit_retries_total", "Deliveries handed back or tried again, by reason."),
    ("acquit_dead_letters_total", "Dead letters confirmed, by code."),
    ("acquit_dead_letter_publish_failures_total", "Dead letters that got no confirmation."),
    ("acquit_breaker_transitions_total", "Changes of a breaker's state."),
    ("acquit_breaker_calls_total", "Calls a breaker saw, by result; refusals count as ok."),
    ("acquit_paused_seconds_total", "Seconds without pulls, by reason."),
    ("acquit_nats_reconnects_total", "Connections to NATS after the first."),
    ("acquit_store_pruned_rows_total", "Records older than store.keep that were removed, by table."),
    ("acquit_spans_sent_total", "Spans that the OTLP endpoint took."),
    ("acquit_spans_dropped_total", "Spans that were not sent, by reason."),
    ("acquit_tracked_ended_total", "Tracked payments whose outcome this worker has told, by outcome."),
    ("acquit_pull_errors_total", "Pull requests that ended in an error, by reason."),
];

const GAUGES: &[(&str, &str)] = &[
    ("acquit_build_info", "1, labelled with the version."),
    ("acquit_messages_in_flight", "Events held."),
    (
        "acquit_in_flight_limit",
        "Events that may be on their way to the rail or at it; less than the slots while it is slow.",
    ),
    ("acquit_fallback_in_flight_limit", "The same for the lane's second rail, where it has one."),
    ("acquit_settlement_unknown", "Payments whose rail has not said what became of them, in this worker's hands."),
    (
        "acquit_unknown_payments",
        "Payments of which nobody knows what became, in the whole store; the same in every worker of a fleet.",
    ),
    ("acquit_unknown_amount", "Their money, in the currency's own unit."),
    ("acquit_unknown_oldest_age_seconds", "For how long nothing was heard of the oldest of them; 0 for none."),
    (
        "acquit_in_progress_payments",
        "Payments of which their rail says that it works on them, in the whole store; the same in every worker of a fleet.",
    ),
    ("acquit_in_progress_amount", "Their money, in the currency's own unit."),
    ("acquit_in_progress_oldest_age_seconds", "How long the oldest of them is in doubt; 0 for none."),
    (
        "acquit_tracked_payments",
        "Payments that the tracker owns in place of their events, in the whole store; the same in every worker of a fleet.",
    ),
    ("acquit_tracked_amount", "Money of tracked payments in the whole store, in the currency's own unit."),
    ("acquit_tracked_oldest_age_seconds", "How long the oldest of them is tracked; 0 for none."),
    (
        "acquit_tracked_overdue_age_seconds",
        "How long ago the longest waiting of them was due for its next sweep; 0 where none is.",
    ),
    (
        "acquit_last_count_timestamp_seconds",
        "Unix time at which payments in doubt and tracked ones were counted last; before that, of the start.",
    ),
    ("acquit_breaker_state", "1 for the state a breaker is in."),
    ("acquit_pulls_paused", "1 where this reason keeps the lane from pulling."),
    ("acquit_consumer_pending_messages", "Events not yet delivered, from consumer info."),
    ("acquit_consumer_ack_pending_messages", "Events delivered and not acknowledged, from consumer info."),
    (
        "acquit_consumer_redelivered_messages",
        "Events delivered more than once and not acknowledged, from consumer info.",
    ),
    ("acquit_last_delivery_timestamp_seconds", "Unix time of the last delivery."),
    ("acquit_last_settlement_timestamp_seconds", "Unix time of the last settled payment."),
    ("acquit_nats_connected", "1 while connected."),
    ("acquit_pulls_outstanding", "Pull requests open at the server."),
    ("acquit_store_log_bytes", "Size of the store's write-ahead log."),
    (
        "acquit_scaling_pressure",
        "Backlog per free slot; 0 while the gate is shut, so that an outage does not scale out.",
    ),
    ("acquit_oldest_unacked_age_seconds", "Age of the oldest event that is not acknowledged."),
    ("acquit_durability_shortfall", "1 where the set-up falls short of production durability, by reason."),
];

const HISTOGRAMS: &[(&str, &str)] = &[
    (AGE, "From publishing to delivery."),
    ("acquit_processing_duration_seconds", "From delivery to the end, by outcome."),
    ("acquit_validation_duration_seconds", "Decoding and judging one event."),
    ("acquit_settlement_duration_seconds", "One call of the settlement route."),
    ("acquit_ack_duration_seconds", "From sending an acknowledgement to the broker's confirmation."),
    ("acquit_store_commit_duration_seconds", "One group commit."),
    (GROUP, "Requests in one group commit."),
];
