//! Every statement of the writer, prepared when it connects. Sets go in as arrays: one statement a table and group.
//! What every payment of the book passes through takes its arrays apart in the select list, side by side: a call in the
//! `FROM` list is first laid down as a whole. They are of one length always.

/// All of them.
pub(super) const ALL: [&str; 43] = [
    STREAM,
    PAYMENT_BLOCK,
    ACCOUNT_BLOCK,
    OWNED,
    LOCK,
    PAYMENTS,
    TRIES,
    EVENTS,
    EVENTS_BETWEEN,
    STARTS,
    STARTS_BETWEEN,
    ACCOUNTS,
    NOW,
    NEW_PAYMENTS,
    NEW_SETTLED,
    CHANGED_PAYMENTS,
    ADVANCED_PAYMENTS,
    ATTEMPTS,
    UNSENT,
    NEW_ACCOUNTS,
    CHANGED_ACCOUNTS,
    TRANSFERS,
    NEW_EVENTS,
    NOTES,
    OLD_NOTES,
    PUT_STARTS,
    PRUNE_LOCK,
    PRUNE_UNLOCK,
    PRUNED_BEFORE,
    OLD_EVENTS,
    OLD_ATTEMPTS,
    AGED_NOTES,
    TRACKED,
    LOCK_TRACKERS,
    TRACKERS,
    DUE,
    NEW_TRACKED,
    DUE_TRACKED,
    GONE_TRACKED,
    DAYS,
    NEW_DAYS,
    CHANGED_DAYS,
    OLD_DAYS,
];

/// The stream's number, made where it has none.
pub(super) const STREAM: &str = "INSERT INTO streams (name, created_ms) VALUES ($1, $2) \
     ON CONFLICT (name, created_ms) DO UPDATE SET name = excluded.name RETURNING id";

pub(super) const PAYMENT_BLOCK: &str = "SELECT nextval('payment_blocks')";

pub(super) const ACCOUNT_BLOCK: &str = "SELECT nextval('account_blocks')";

/// Payments by the events that they stand for.
pub(super) const OWNED: &str = "SELECT p.payment_id FROM unnest($1::bigint[], $2::bigint[]) AS w (stream, sequence) \
     JOIN payments p USING (stream, sequence)";

macro_rules! payment_columns {
    () => {
        "p.id, p.payment_id, p.fingerprint, p.state, s.name, s.created_ms, p.sequence, p.scheme, p.order_key, p.lane, \
         p.rail, p.rail_ref, p.currency, p.minor, p.end_to_end_id, p.instruction_id, p.uetr, p.requested_at, \
         p.finished_at, p.late, p.attempts, p.last_attempt, p.reasons, p.claim_owner, p.claim_until, p.fence, \
         p.deliveries, p.reserved"
    };
}

macro_rules! event_columns {
    () => {
        "s.name, s.created_ms, e.sequence, e.kind, e.payment_id, e.reasons, e.scheme, e.order_key, e.lane, \
         e.end_to_end_id, e.instruction_id, e.uetr, e.currency, e.minor, e.requested_at, e.first_seen, e.attempts, e.at"
    };
}
pub(in crate::store) use {event_columns, payment_columns};

/// One lock an event, in the order given. The same event may be in two processes' hands, and its end may be a row of
/// `payments` in one and of `events` in the other: no unique key sees that.
pub(super) const LOCK: &str = "SELECT count(pg_advisory_xact_lock(k)) FROM unnest($1::bigint[]) AS k";

/// Payments by id, locked in that order.
pub(super) const PAYMENTS: &str = concat!(
    "SELECT ",
    payment_columns!(),
    " FROM payments p JOIN streams s ON s.id = p.stream WHERE p.payment_id = ANY ($1) ORDER BY p.payment_id \
     FOR UPDATE OF p"
);

/// Attempts that matter for a decision, of payments that are locked by now.
pub(super) const TRIES: &str = "SELECT p.payment_id, a.payment, a.number, a.leg, a.rail, a.started_at, a.answer, \
     a.answered_at, a.not_found, a.in_progress_at FROM payments p JOIN attempts a ON a.payment = p.id \
     WHERE p.payment_id = ANY ($1) AND (a.answered_at IS NULL OR a.answer = 'resubmit' OR a.number = p.last_attempt) ORDER BY a.payment, a.number";

pub(super) const EVENTS: &str = concat!(
    "SELECT ",
    event_columns!(),
    " FROM unnest($1::bigint[], $2::bigint[]) AS w (stream, sequence) JOIN events e USING (stream, sequence) \
     JOIN streams s ON s.id = e.stream"
);

/// As [`EVENTS`], for numbers of one stream that lie close together: one way down the index instead of one for each.
pub(super) const EVENTS_BETWEEN: &str = concat!(
    "SELECT ",
    event_columns!(),
    " FROM events e JOIN streams s ON s.id = e.stream WHERE e.stream = $1 AND e.sequence BETWEEN $2 AND $3"
);

/// Starts without an end.
pub(super) const STARTS: &str = "SELECT t.stream, t.sequence, t.count, t.first_at \
     FROM unnest($1::bigint[], $2::bigint[]) AS w (stream, sequence) JOIN starts t USING (stream, sequence)";

/// As [`STARTS`], for numbers of one stream that lie close together.
pub(super) const STARTS_BETWEEN: &str = "SELECT t.stream, t.sequence, t.count, t.first_at FROM starts t \
     WHERE t.stream = $1 AND t.sequence BETWEEN $2 AND $3";

/// Accounts by number, and by name those whose number is not known yet; locked by number.
pub(super) const ACCOUNTS: &str = "SELECT a.id, a.key, a.currency, a.debits_posted, a.credits_posted, a.overdraft, \
     a.opened_at FROM accounts a WHERE a.id = ANY ($1::bigint[] || ARRAY(SELECT n.id FROM accounts n \
     WHERE (n.key, n.currency) IN (SELECT * FROM unnest($2::text[], $3::text[])))) ORDER BY a.id FOR UPDATE OF a";

/// The database's clock; read after every lock, because claims end by it.
pub(super) const NOW: &str = "SELECT clock_timestamp()";

pub(super) const NEW_PAYMENTS: &str = "INSERT INTO payments (id, payment_id, fingerprint, fp_version, state, stream, sequence, \
     scheme, order_key, lane, rail, rail_ref, currency, minor, end_to_end_id, instruction_id, uetr, requested_at, \
     finished_at, late, attempts, last_attempt, reasons, claim_owner, claim_until, fence, deliveries, reserved) \
     SELECT * FROM unnest($1::bigint[], $2::text[], $3::bytea[], $4::integer[], $5::text[], $6::bigint[], $7::bigint[], \
     $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::bigint[], $15::text[], \
     $16::text[], $17::text[], $18::timestamptz[], $19::timestamptz[], $20::boolean[], $21::integer[], \
     $22::integer[], $23::text[], $24::text[], $25::timestamptz[], $26::bigint[], $27::integer[], $28::text[])";

/// As [`NEW_PAYMENTS`], for a group whose new payments are all settled in the book: half of the columns are the same in
/// every row then, and taking an array apart is what costs.
pub(super) const NEW_SETTLED: &str = "INSERT INTO payments (id, payment_id, fingerprint, fp_version, state, stream, sequence, \
     scheme, order_key, lane, rail, rail_ref, currency, minor, end_to_end_id, instruction_id, uetr, requested_at, \
     finished_at, late, attempts, last_attempt, fence, deliveries) SELECT w.id, w.payment_id, w.fingerprint, $15, 'settled', \
     $16, w.sequence, w.scheme, w.order_key, $17, 'book', w.rail_ref, w.currency, w.minor, w.end_to_end_id, \
     w.instruction_id, w.uetr, w.requested_at, $18, $19, 1, 0, 0, w.deliveries \
     FROM (SELECT unnest($1::bigint[]) AS id, unnest($2::text[]) AS payment_id, unnest($3::bytea[]) AS fingerprint, \
     unnest($4::bigint[]) AS sequence, unnest($5::text[]) AS scheme, unnest($6::text[]) AS order_key, \
     unnest($7::text[]) AS rail_ref, unnest($8::text[]) AS currency, unnest($9::bigint[]) AS minor, \
     unnest($10::text[]) AS end_to_end_id, unnest($11::text[]) AS instruction_id, unnest($12::text[]) AS uetr, \
     unnest($13::timestamptz[]) AS requested_at, unnest($14::integer[]) AS deliveries) AS w";

pub(super) const CHANGED_PAYMENTS: &str = "UPDATE payments p SET payment_id = w.payment_id, fingerprint = w.fingerprint, \
     fp_version = w.fp_version, state = w.state, stream = w.stream, sequence = w.sequence, scheme = w.scheme, \
     order_key = w.order_key, lane = w.lane, rail = w.rail, rail_ref = w.rail_ref, currency = w.currency, \
     minor = w.minor, end_to_end_id = w.end_to_end_id, instruction_id = w.instruction_id, uetr = w.uetr, \
     requested_at = w.requested_at, finished_at = w.finished_at, late = w.late, attempts = w.attempts, \
     last_attempt = w.last_attempt, reasons = w.reasons, claim_owner = w.claim_owner, claim_until = w.claim_until, \
     fence = w.fence, deliveries = w.deliveries, reserved = w.reserved \
     FROM unnest($1::bigint[], $2::text[], $3::bytea[], $4::integer[], $5::text[], $6::bigint[], $7::bigint[], \
     $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::bigint[], $15::text[], \
     $16::text[], $17::text[], $18::timestamptz[], $19::timestamptz[], $20::boolean[], $21::integer[], \
     $22::integer[], $23::text[], $24::text[], $25::timestamptz[], $26::bigint[], $27::integer[], $28::text[]) \
     AS w (id, payment_id, fingerprint, fp_version, state, stream, sequence, scheme, order_key, lane, rail, rail_ref, \
     currency, minor, end_to_end_id, instruction_id, uetr, requested_at, finished_at, late, attempts, last_attempt, \
     reasons, claim_owner, claim_until, fence, deliveries, reserved) WHERE p.id = w.id";

/// As [`CHANGED_PAYMENTS`], for payments of which only that is new how far they are: what they ask for stays.
pub(super) const ADVANCED_PAYMENTS: &str = "UPDATE payments p SET state = w.state, lane = w.lane, rail = w.rail, \
     rail_ref = w.rail_ref, finished_at = w.finished_at, late = w.late, attempts = w.attempts, \
     last_attempt = w.last_attempt, reasons = w.reasons, claim_owner = w.claim_owner, claim_until = w.claim_until, \
     fence = w.fence, deliveries = w.deliveries, reserved = w.reserved \
     FROM (SELECT unnest($1::bigint[]) AS id, unnest($2::text[]) AS state, unnest($3::text[]) AS lane, \
     unnest($4::text[]) AS rail, unnest($5::text[]) AS rail_ref, unnest($6::timestamptz[]) AS finished_at, \
     unnest($7::boolean[]) AS late, unnest($8::integer[]) AS attempts, unnest($9::integer[]) AS last_attempt, \
     unnest($10::text[]) AS reasons, unnest($11::text[]) AS claim_owner, unnest($12::timestamptz[]) AS claim_until, \
     unnest($13::bigint[]) AS fence, unnest($14::integer[]) AS deliveries, unnest($15::text[]) AS reserved) AS w \
     WHERE p.id = w.id";

pub(super) const ATTEMPTS: &str = "INSERT INTO attempts (payment, number, leg, rail, started_at, answer, answered_at, \
     not_found, in_progress_at) SELECT * FROM unnest($1::bigint[], $2::integer[], $3::smallint[], $4::text[], \
     $5::timestamptz[], $6::text[], $7::timestamptz[], $8::integer[], $9::timestamptz[]) \
     ON CONFLICT (payment, number) DO UPDATE SET answer = excluded.answer, answered_at = excluded.answered_at, \
     not_found = excluded.not_found, in_progress_at = excluded.in_progress_at";

/// Attempts without an effect that are too many to keep.
pub(super) const UNSENT: &str = "DELETE FROM attempts a USING unnest($1::bigint[], $2::integer[]) AS w (payment, upto) \
     WHERE a.payment = w.payment AND a.answer = 'not_sent' AND a.number <= w.upto";

pub(super) const NEW_ACCOUNTS: &str = "INSERT INTO accounts (id, key, currency, debits_posted, credits_posted, overdraft, \
     opened_at) SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::boolean[], \
     $7::timestamptz[])";

pub(super) const CHANGED_ACCOUNTS: &str = "UPDATE accounts a SET debits_posted = w.debits, credits_posted = w.credits, \
     overdraft = w.overdraft FROM (SELECT unnest($1::bigint[]) AS id, unnest($2::bigint[]) AS debits, \
     unnest($3::bigint[]) AS credits, unnest($4::boolean[]) AS overdraft) AS w WHERE a.id = w.id";

pub(super) const TRANSFERS: &str = "INSERT INTO transfers (payment, debit_account, credit_account, currency, minor, posted_at) \
     SELECT unnest($1::bigint[]), unnest($2::bigint[]), unnest($3::bigint[]), unnest($4::text[]), unnest($5::bigint[]), \
     unnest($6::timestamptz[])";

pub(super) const NEW_EVENTS: &str = "INSERT INTO events (stream, sequence, kind, payment_id, code, reasons, scheme, order_key, \
     lane, end_to_end_id, instruction_id, uetr, currency, minor, requested_at, first_seen, attempts, at) \
     SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], \
     $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::bigint[], $15::timestamptz[], \
     $16::timestamptz[], $17::integer[], $18::timestamptz[])";

/// Adds life lines.
pub(super) const NOTES: &str = "INSERT INTO notes (payment_id, at, what, breaker) \
     SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[]) ON CONFLICT DO NOTHING";

/// Keeps the latest of each payment. A statement of its own: one does not see what another part of it adds.
pub(super) const OLD_NOTES: &str = "DELETE FROM notes n USING (SELECT payment_id, at, what, \
     row_number() OVER (PARTITION BY payment_id ORDER BY at DESC, what) AS place FROM notes \
     WHERE payment_id = ANY ($1)) AS old \
     WHERE old.place > 64 AND n.payment_id = old.payment_id AND n.at = old.at AND n.what = old.what";

/// Starts with a count are stored, those without (0) are removed.
pub(super) const PUT_STARTS: &str = "WITH w AS (SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::integer[], \
     $4::timestamptz[]) AS w (stream, sequence, count, first_at)), \
     gone AS (DELETE FROM starts t USING w WHERE w.count = 0 AND t.stream = w.stream AND t.sequence = w.sequence) \
     INSERT INTO starts (stream, sequence, count, first_at) SELECT * FROM w WHERE w.count > 0 \
     ON CONFLICT (stream, sequence) DO UPDATE SET count = excluded.count, first_at = excluded.first_at";

/// A round of pruning is one process's, in each schema of the database.
pub(super) const PRUNE_LOCK: &str = "SELECT pg_try_advisory_lock(hashtext('acquit prune'), hashtext(current_schema()))";

/// All of the session: a page that failed may have left the lock taken twice, and there is no other of its kind.
pub(super) const PRUNE_UNLOCK: &str = "SELECT pg_advisory_unlock_all() IS NULL";

/// Processes may keep for different times: what the one that keeps shortest has forgotten is forgotten.
pub(super) const PRUNED_BEFORE: &str = "INSERT INTO meta VALUES ('pruned_before', $1) ON CONFLICT (key) DO UPDATE \
     SET value = greatest(meta.value::bigint, excluded.value::bigint)::text";

/// A page of ended events. The high-water mark of a stream is its last ended event or payment: that stays.
/// Behind a young row there are only younger ones, but for those that waited.
pub(super) const OLD_EVENTS: &str = "WITH page AS MATERIALIZED (SELECT stream, sequence, at FROM events \
     WHERE (stream, sequence) > ($1, $2) ORDER BY stream, sequence LIMIT $4), \
     old AS MATERIALIZED (SELECT e.stream, e.sequence FROM page w JOIN events e USING (stream, sequence) \
     WHERE w.at < $3 AND (EXISTS (SELECT 1 FROM events l WHERE l.stream = w.stream AND l.sequence > w.sequence) \
     OR EXISTS (SELECT 1 FROM payments l WHERE l.stream = w.stream AND l.sequence > w.sequence \
     AND l.finished_at IS NOT NULL)) FOR UPDATE OF e SKIP LOCKED), \
     gone AS (DELETE FROM events e USING old WHERE e.stream = old.stream AND e.sequence = old.sequence RETURNING 1) \
     SELECT (SELECT count(*) FROM page), (SELECT count(*) FROM gone), at < $3, stream, sequence FROM page \
     ORDER BY stream DESC, sequence DESC LIMIT 1";

/// A page of attempts, of finished payments only: without its attempts a payment in doubt would be sent again.
pub(super) const OLD_ATTEMPTS: &str = "WITH page AS MATERIALIZED (SELECT payment, number, started_at FROM attempts \
     WHERE (payment, number) > ($1, $2) ORDER BY payment, number LIMIT $4), \
     old AS MATERIALIZED (SELECT a.payment, a.number FROM page w JOIN payments p ON p.id = w.payment \
     JOIN attempts a ON a.payment = w.payment AND a.number = w.number \
     WHERE p.state IN ('settled', 'rejected') AND p.finished_at < $3 FOR UPDATE OF a SKIP LOCKED), \
     gone AS (DELETE FROM attempts a USING old WHERE a.payment = old.payment AND a.number = old.number RETURNING 1) \
     SELECT (SELECT count(*) FROM page), (SELECT count(*) FROM gone), started_at < $3, payment, number FROM page \
     ORDER BY payment DESC, number DESC LIMIT 1";

/// A page of notes, in order of payment ids, so that a round looks at all of them: there are few, only of what had to
/// wait.
pub(super) const AGED_NOTES: &str = "WITH page AS MATERIALIZED (SELECT payment_id, at, what FROM notes \
     WHERE (payment_id, at, what) > ($1, $2, $3) ORDER BY payment_id, at, what LIMIT $5), \
     old AS MATERIALIZED (SELECT n.payment_id, n.at, n.what FROM page w JOIN notes n USING (payment_id, at, what) \
     WHERE w.at < $4 FOR UPDATE OF n SKIP LOCKED), \
     gone AS (DELETE FROM notes n USING old WHERE n.payment_id = old.payment_id AND n.at = old.at \
     AND n.what = old.what RETURNING 1) \
     SELECT (SELECT count(*) FROM page), (SELECT count(*) FROM gone), true, payment_id, at, what FROM page \
     ORDER BY payment_id DESC, at DESC, what DESC LIMIT 1";
/// Places in the tracker, of payments that are locked by now.
pub(super) const TRACKED: &str = "SELECT p.payment_id, t.since, t.due, t.sweeps FROM payments p \
     JOIN tracker t ON t.payment = p.id WHERE p.payment_id = ANY ($1)";

/// Nobody else adds to these trackers until the transaction has ended. The locks of events have other keys.
pub(super) const LOCK_TRACKERS: &str =
    "SELECT count(pg_advisory_xact_lock(1094930516, hashtext(l))) FROM unnest($1::text[]) AS l";

/// What trackers hold.
pub(super) const TRACKERS: &str = "SELECT t.lane, t.currency, count(*), sum(t.minor)::bigint, min(t.since) FROM tracker t \
     WHERE t.lane = ANY ($1) GROUP BY t.lane, t.currency";

/// Tracked payments that are due and that no other process holds.
pub(super) const DUE: &str = concat!(
    "SELECT ",
    payment_columns!(),
    ", t.headers, t.body FROM tracker t JOIN payments p ON p.id = t.payment JOIN streams s ON s.id = p.stream \
     WHERE t.lane = $1 AND t.due <= coalesce($4, clock_timestamp()) AND (p.claim_until IS NULL \
     OR p.claim_until <= coalesce($4, clock_timestamp()) OR starts_with(p.claim_owner, $2)) ORDER BY t.due LIMIT $3"
);

pub(super) const NEW_TRACKED: &str = "INSERT INTO tracker (payment, lane, currency, minor, since, due, sweeps, headers, body) \
     SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::timestamptz[], $6::timestamptz[], \
     $7::integer[], $8::text[], $9::bytea[])";

pub(super) const DUE_TRACKED: &str = "UPDATE tracker t SET due = w.due, sweeps = w.sweeps \
     FROM unnest($1::bigint[], $2::timestamptz[], $3::integer[]) AS w (payment, due, sweeps) WHERE t.payment = w.payment";

pub(super) const GONE_TRACKED: &str = "DELETE FROM tracker WHERE payment = ANY ($1)";

/// Days of debtors with a limit, locked in the order of their key; after the accounts, and only where there are any.
pub(super) const DAYS: &str = "SELECT s.day, s.account, s.currency, s.minor FROM spending s \
     WHERE (s.day, s.account, s.currency) IN (SELECT * FROM unnest($1::date[], $2::text[], $3::text[])) \
     ORDER BY s.day, s.account, s.currency FOR UPDATE";

/// In the order of their key. One that another process has made meanwhile is a unique key that refuses the group.
pub(super) const NEW_DAYS: &str = "INSERT INTO spending (day, account, currency, minor) \
     SELECT * FROM unnest($1::date[], $2::text[], $3::text[], $4::bigint[])";

pub(super) const CHANGED_DAYS: &str = "UPDATE spending s SET minor = w.minor \
     FROM unnest($1::date[], $2::text[], $3::text[], $4::bigint[]) AS w (day, account, currency, minor) \
     WHERE s.day = w.day AND s.account = w.account AND s.currency = w.currency";

/// What another process has locked is left to it.
pub(super) const OLD_DAYS: &str = "DELETE FROM spending s USING (SELECT day, account, currency FROM spending \
     WHERE day < $1 ORDER BY day, account, currency LIMIT $2 FOR UPDATE SKIP LOCKED) AS old \
     WHERE s.day = old.day AND s.account = old.account AND s.currency = old.currency";
