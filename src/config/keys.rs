//! Every key with its form, its default and its text: the one list that reading, printing, the example file and the
//! suggestions are made from.

use super::forms::Form;
use super::problem::nearest;

/// One key of a section.
#[derive(Debug)]
pub(super) struct Key {
    /// Within the section; a nested table's keys are joined with a point.
    pub(super) name: &'static str,
    pub(super) form: Form,
    /// As it would be written outside the file; empty where there is none.
    pub(super) default: &'static str,
    pub(super) doc: &'static str,
    /// Never shown: a secret, a place where a secret is easily written by mistake, or personal data.
    pub(super) secret: bool,
}

/// A table of the file.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) name: &'static str,
    /// `[[name]]`.
    pub(super) repeated: bool,
    pub(super) doc: &'static str,
    pub(super) keys: &'static [Key],
}

const fn key(name: &'static str, form: Form, default: &'static str, doc: &'static str) -> Key {
    Key { name, form, default, doc, secret: false }
}

const fn secret(name: &'static str, form: Form, doc: &'static str) -> Key {
    Key { name, form, default: "", doc, secret: true }
}

const MS: u64 = 1;
const SECOND: u64 = 1_000 * MS;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

use Form::{Factor, File, Flag, OneOf, Path, Size, Span, Text, Texts, Whole};

/// All sections, in the order in which they are shown.
pub(super) static SECTIONS: [Section; 10] = [BROKER, STORE, BOOK, ACCOUNT, LANE, RAIL, SCHEME, OPS, LOG, TELEMETRY];

const BROKER: Section = Section {
    name: "broker",
    repeated: false,
    doc: "The NATS servers and the streams of this worker.",
    keys: &[
        key(
            "servers",
            Texts,
            "nats://127.0.0.1:4222",
            "nats:// or tls:// addresses of one cluster, without a password",
        ),
        key("name", Text, "acquit", "the connection's name, as the server's monitoring shows it"),
        key("stream", Text, "PAYMENTS", "the stream of payment events"),
        key("outcomes_stream", Text, "PAYMENT_OUTCOMES", "the stream of outcome events"),
        key("dead_letters_stream", Text, "PAYMENT_DEAD_LETTERS", "the stream of dead letters"),
        key("audit_stream", Text, "PAYMENT_AUDIT", "the stream of operators' actions"),
        secret("credentials_file", File, "a .creds file (JWT and seed)"),
        secret("nkey_seed_file", File, "a file with an NKEY seed"),
        key("user", Text, "", "user name, together with password_file"),
        secret("password_file", File, "a file with the user's password"),
        secret("token_file", File, "a file with a token"),
        key("ca_file", File, "", "certificates of the authorities that may vouch for the servers (PEM)"),
        key("client_cert_file", File, "", "this client's certificate (PEM), together with client_key_file"),
        secret("client_key_file", File, "the key of this client's certificate (PEM)"),
        key("require_tls", Flag, "false", "refuse a server that does not offer TLS"),
        key("inbox_prefix", Text, "_INBOX_acquit", "where replies come to; this role alone may subscribe there"),
        key("ping_interval", Span(5 * SECOND, 10 * SECOND), "5s", "how often the connection is tested"),
    ],
};

const STORE: Section = Section {
    name: "store",
    repeated: false,
    doc: "The durable record: a SQLite file for one worker process, or a PostgreSQL database for a fleet.",
    keys: &[
        key("path", Path, "acquit.db", "the database file; on a local disk, never on a network share"),
        key("wal_limit", Size(MIB, 64 * GIB), "256MiB", "the write-ahead log's size at which lanes pause"),
        key("busy_timeout", Span(10 * MS, 10 * SECOND), "250ms", "how long a write waits for another process's lock"),
        key("url", Text, "", "in place of path: postgres://user@host:5432/database, without a password"),
        secret("password_file", File, "a file with the database user's password"),
        key(
            "ca_file",
            File,
            "",
            "certificates that may vouch for the database (PEM); the system's where none is given",
        ),
        key("schema", Text, "acquit", "the schema of the tables; a store each"),
        key("allow_plaintext", Flag, "false", "reach the database over a network without TLS"),
        key("statement_timeout", Span(100 * MS, MINUTE), "5s", "how long the database may take for one statement"),
        key("marker", Path, "acquit.suspect", "with url: a file of this machine that names what may have crashed it"),
        key("group", Whole(1, 4_096), "512", "requests in one transaction at most"),
        key("poison_starts", Whole(1, 100), "5", "starts without an end after which an event is quarantined"),
        key(
            "keep",
            Span(0, 36_500 * DAY),
            "0s",
            "how long records of ended events are kept, such as 9600h; 0s: for ever",
        ),
    ],
};

const BOOK: Section = Section {
    name: "book",
    repeated: false,
    doc: "The double-entry ledger.",
    keys: &[
        key("unknown_accounts", OneOf(&["open", "refuse"]), "open", "open an unknown account or refuse (AC02, AC03)"),
        key(
            "overdraft",
            OneOf(&["allow", "refuse"]),
            "refuse",
            "whether an account opened so may go below zero (AM04)",
        ),
    ],
};

const ACCOUNT: Section = Section {
    name: "account",
    repeated: true,
    doc: "An account the book knows from the start; opened at its first use. Only in the file.",
    keys: &[
        secret("iban", Text, "its IBAN; or other_id"),
        secret("other_id", Text, "its number where it has no IBAN, 1 to 34 characters"),
        secret("other_scheme", Text, "the scheme of other_id"),
        key("overdraft", OneOf(&["allow", "refuse"]), "refuse", "whether it may go below zero (AM04)"),
    ],
};

const LANE: Section = Section {
    name: "lane",
    repeated: true,
    doc: "A durable consumer with its schemes, its route, its breaker and its bounds. Without any: one named payments.",
    keys: &[
        key("name", Text, "", "its name in metrics and outcomes; A-Z, a-z, 0-9, '_' and '-'"),
        key("consumer", Text, "", "its durable consumer; left out: acquit-<name>"),
        key("schemes", Texts, "book,sct,sct-inst,cbpr", "the schemes it serves; no other lane serves them"),
        key("route", Text, "book", "where its payments are settled: book, or the name of a [[rail]]"),
        key(
            "fallback",
            Text,
            "",
            "a second [[rail]], for payments that the route did not take and cannot have: it is down; left out: none",
        ),
        key("slots", Whole(1, 4_096), "512", "events held at once"),
        key("parked", Whole(1, 65_535), "256", "events waiting for a later try before the lane pauses"),
        key("payload_bytes", Size(80 * KIB, GIB), "16MiB", "payload held at once"),
        key("grace", Span(5 * SECOND, HOUR), "20s", "how long a shutdown waits for what is in hand"),
        key("expires", Span(SECOND, 5 * SECOND), "2s", "how long one pull request stays open at the server"),
        key("execution_horizon_days", Whole(0, 366), "0", "how far ahead of the event an execution date may lie"),
        key(
            "in_progress",
            OneOf(&["hold", "track"]),
            "hold",
            "while its rail takes long an event stays un-acknowledged (hold), or the store keeps its message in its stead",
        ),
        key("track_after", Span(0, 7 * DAY), "1m", "with track: the age from which any payment in doubt is tracked"),
        key("track_limit", Whole(1, 1_000_000), "10000", "with track: payments tracked before the lane pauses"),
        key(
            "track_limit_amount",
            Texts,
            "",
            "the same in money, such as \"EUR 5000000.00\"; other currencies are then not tracked; left out: any money",
        ),
        key(
            "debtor_daily_limits",
            Texts,
            "",
            "the most that a debtor account may spend a day (AM14), by currency: \"EUR=10000.00\"",
        ),
        key("retry.attempts", Whole(1, 1_000), "10", "charged attempts of one payment before it is given up"),
        key("retry.age", Span(SECOND, 30 * DAY), "24h", "the same by time since the first that reached the rail"),
        key("retry.not_sent", Span(MS, HOUR), "200ms", "first delay where the rail was not reached; doubles"),
        key("retry.not_sent_max", Span(MS, HOUR), "30s", "its longest delay"),
        key("retry.store_lost", Span(MS, HOUR), "100ms", "first delay where the store did not answer; doubles"),
        key("retry.store_lost_max", Span(MS, HOUR), "5s", "its longest delay"),
        key("retry.elsewhere", Span(MS, HOUR), "1s", "first delay while another worker holds the payment; doubles"),
        key("retry.elsewhere_max", Span(MS, HOUR), "30s", "its longest delay"),
        key("retry.interrupted", Span(MS, HOUR), "100ms", "first delay of what this worker could not end; doubles"),
        key("retry.interrupted_max", Span(MS, HOUR), "5s", "its longest delay"),
        key("retry.doubt", Span(MS, HOUR), "1s", "first delay before the rail is asked about a payment; doubles"),
        key("retry.doubt_max", Span(MS, HOUR), "1m", "its longest delay"),
        key(
            "breaker.sliding_window_type",
            OneOf(&["count", "time"]),
            "count",
            "judge the last calls or the last seconds",
        ),
        key("breaker.sliding_window_size", Whole(1, 10_000), "100", "how many calls or seconds"),
        key("breaker.minimum_number_of_calls", Whole(1, 10_000), "20", "no judgement on fewer calls"),
        key("breaker.failure_rate_threshold", Whole(1, 100), "50", "percent of failed calls that opens it"),
        key("breaker.slow_call_rate_threshold", Whole(1, 100), "100", "percent of slow calls that opens it"),
        key("breaker.slow_call_duration_threshold", Span(MS, HOUR), "10s", "a call of this length is slow"),
        key("breaker.wait_duration_in_open_state", Span(MS, HOUR), "2s", "how long it stays open; doubles each time"),
        key("breaker.exponential_max_wait_duration_in_open_state", Span(MS, HOUR), "1m", "the longest it stays open"),
        key("breaker.randomized_wait_factor", Factor(0.9), "0.2", "jitter of the open time, as a part of it each way"),
        key("breaker.permitted_number_of_calls_in_half_open_state", Whole(1, 1_000), "3", "probes after the open time"),
        key(
            "limit.adaptive",
            Flag,
            "true",
            "on a rail: fewer calls at once while it slows down or does not answer in time",
        ),
        key("limit.least", Whole(1, 4_096), "2", "calls at once that are always allowed; not above slots"),
        key("limit.slowdown", Whole(110, 1_000), "200", "percent of its usual time at which a call is slowed down"),
    ],
};

const RAIL: Section = Section {
    name: "rail",
    repeated: true,
    doc: "A payment service over HTTP: POST with an idempotency key, GET to ask what became of it.",
    keys: &[
        key("name", Text, "", "what lanes name as their route; kept with every attempt"),
        key("url", Text, "", "where payments are posted to; https, without user, password or query"),
        key("inquiry_url", Text, "", "where it is asked about a payment; has {key} in its path or query"),
        key("plaintext", Flag, "false", "allow http to another machine: what pays is then read on the way"),
        key("body_file", File, "", "a JSON template of the body; left out: the payment as contract v1 has it"),
        key("key_header", Text, "Idempotency-Key", "the header that carries the key"),
        secret("headers", Texts, "other headers, each from a file: \"X-Tenant=/run/secrets/tenant\""),
        secret("token_file", File, "a file with a bearer token; read again when it changes"),
        key("ca_file", File, "", "certificates of the authorities that may vouch for it (PEM); left out: the system's"),
        key("client_cert_file", File, "", "this client's certificate (PEM), together with client_key_file"),
        secret("client_key_file", File, "the key of this client's certificate (PEM)"),
        key("deadline", Span(100 * MS, 5 * MINUTE), "10s", "how long a call is waited for; unknown after that"),
        key("connect_timeout", Span(10 * MS, MINUTE), "2s", "how long a connection may take"),
        key("longest_execution", Span(MS, 30 * DAY), "5m", "the longest that a payment may take effect after its call"),
        key("key_retention", Span(SECOND, 3_650 * DAY), "24h", "how long it remembers a key"),
        key("connections", Whole(1, 4_096), "512", "submissions under way at once; not less than its lanes' slots"),
        key("inquiries", Whole(1, 512), "16", "inquiries under way at once"),
        key("status", Text, "/status", "JSON pointer to the status word of a reply"),
        key("reference", Text, "", "JSON pointer to its reference; left out: the key"),
        key("reason", Text, "", "JSON pointer to the reason code of a refusal"),
        key("settled", Texts, "ACSC,ACCC", "status words: done"),
        key(
            "in_progress",
            Texts,
            "RCVD,ACTC,ACCP,ACFC,ACSP,ACPD,ACWC,ACWP,PDNG,PATC",
            "status words: taken, not final",
        ),
        key("rejected", Texts, "RJCT,CANC", "status words: refused"),
        key("resubmit", Texts, "", "status words: refused, a new attempt under a new key is allowed"),
        key("blocked", Texts, "BLCK", "status words: neither credited nor returned, a person decides"),
        key("not_found", Texts, "", "status words: the key is not known; a bare 404 says nothing"),
        key(
            "resubmit_reasons",
            Texts,
            "AB01,AB02,AB03,AB04,AB05,AB06,AB07,AB08,AB09,AB10,AG10,AG11,ED05,ED06,FF10,TM01",
            "its reason codes that allow a new attempt",
        ),
        key("codes", Texts, "", "its reason codes as ours: \"insufficient_funds=AM04\"; ours need no line"),
        key("default_code", Text, "MS03", "the code of a refusal for any other reason"),
        key("not_processed", Texts, "", "HTTP statuses that by its contract mean not processed, such as 503"),
    ],
};

const SCHEME: Section = Section {
    name: "scheme",
    repeated: true,
    doc: "A scheme beside the built-in book, sct, sct-inst and cbpr. Only in the file.",
    keys: &[
        key("name", Text, "", "the third token of its subjects; A-Z, a-z, 0-9, '_' and '-'"),
        key("time_zone", Text, "UTC", "the IANA zone in which its days begin"),
        key("currencies", Texts, "", "ISO 4217 codes it moves; left out: any"),
        key("maximum", Text, "", "the most it moves at once, such as \"999999999.99\"; left out: no bound"),
        key("charge_bearers", Texts, "DEBT,CRED,SHAR,SLEV", "the charge bearers it takes"),
        key("require_ibans", Flag, "false", "both accounts are known by their IBAN"),
        key("require_names", Flag, "false", "debtor and creditor are named"),
        key("require_agents", Flag, "false", "both agents are given"),
        key("require_uetr", Flag, "false", "a UETR is given"),
        key("require_swift_characters", Flag, "false", "names, addresses, remittance keep to the SWIFT X set"),
    ],
};

const OPS: Section = Section {
    name: "ops",
    repeated: false,
    doc: "The HTTP side for operators: a page, health, metrics, status, orders to breakers.",
    keys: &[
        key("listen", Text, "127.0.0.1:9464", "address and port; port 0 takes a free one"),
        secret(
            "control_token_file",
            File,
            "a file with the token (16 characters or more) of those who may steer; without one only this machine may",
        ),
    ],
};

const LOG: Section = Section {
    name: "log",
    repeated: false,
    doc: "The log, on standard error.",
    keys: &[
        key("format", OneOf(&["text", "json"]), "text", "for people or for machines"),
        key(
            "level",
            OneOf(&["error", "warn", "info", "debug", "trace"]),
            "info",
            "the least grave level that is written",
        ),
    ],
};

const TELEMETRY: Section = Section {
    name: "telemetry",
    repeated: false,
    doc: "Distributed traces, sent over OTLP/HTTP.",
    keys: &[
        key("otlp_endpoint", Text, "", "where spans go, such as \"http://127.0.0.1:4318\"; left out: none are made"),
        key("sampling_ratio", Factor(1.0), "1", "part of the traces begun here; a publisher's decision goes first"),
    ],
};

/// Whether `key` may be given outside the file: `store.path`, `lane.<name>.slots`.
pub(super) fn is_known(key: &str) -> bool {
    let Some((name, rest)) = key.split_once('.') else { return false };
    SECTIONS.iter().filter(|section| section.name == name).any(|section| {
        match (section.repeated, rest.split_once('.')) {
            (false, _) => section.keys.iter().any(|known| known.name == rest),
            (true, Some((_, own))) => {
                [LANE.name, RAIL.name].contains(&name)
                    && own != "name"
                    && section.keys.iter().any(|known| known.name == own)
            }
            (true, None) => false,
        }
    })
}

/// The key or section that was probably meant.
pub(super) fn suggestion(written: &str) -> Option<String> {
    let keys = SECTIONS.iter().flat_map(|s| s.keys.iter().map(move |key| format!("{}.{}", s.name, key.name)));
    let names: Vec<String> = keys.chain(SECTIONS.iter().map(|section| section.name.to_owned())).collect();
    nearest(written, names.iter().map(String::as_str)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::super::forms::Given;
    use super::*;

    #[test]
    fn every_default_keeps_the_rule_of_its_key() {
        for section in &SECTIONS {
            for key in section.keys {
                let value = key.form.read(&Given::Word(key.default.to_owned()));
                assert!(value.is_some(), "{}.{}", section.name, key.name);
            }
        }
    }

    #[test]
    fn every_key_that_could_show_a_secret_or_an_account_is_hidden() {
        let hidden = SECTIONS.iter().flat_map(|section| section.keys).filter(|key| key.secret);
        let hidden: Vec<&str> = hidden.map(|key| key.name).collect();
        let expected = [
            "credentials_file",
            "nkey_seed_file",
            "password_file",
            "token_file",
            "client_key_file",
            "password_file",
            "iban",
            "other_id",
            "other_scheme",
            "headers",
            "token_file",
            "client_key_file",
            "control_token_file",
        ];
        assert_eq!(hidden, expected);
    }

    #[test]
    fn only_lanes_and_rails_among_repeated_tables_are_reached_from_outside() {
        assert!(is_known("store.path") && is_known("lane.instant.retry.attempts"));
        assert!(is_known("rail.bank.url") && !is_known("rail.bank.name"));
        assert!(!is_known("lane.slots") && !is_known("scheme.x.maximum") && !is_known("lane.instant.name"));
    }
}
