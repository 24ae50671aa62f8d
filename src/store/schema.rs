//! The schema, documented where it is made: `sqlite3 FILE .schema` shows the comments to whoever reads the store.

/// "ACQT": marks the file as a store of ours.
pub(super) const APPLICATION_ID: i64 = 0x4143_5154;

/// `PRAGMA user_version` of a store that all of [`STEPS`] were applied to.
pub(super) const VERSION: i64 = 2;

/// What leads to each version from the one before it. A version that was released is never edited.
pub(super) const STEPS: [(i64, &str); 2] = [(1, SQL), (2, IN_PROGRESS)];

/// Version 1. Instants are milliseconds since the Unix epoch, UTC; amounts are whole minor units.
const SQL: &str = "
CREATE TABLE meta (
    -- What holds for the whole store: 'store_id' (a UUID that the consumer's metadata names as well),
    -- 'created_at', 'probed_at' (last write that only proved that writing works), 'pruned_before' (records of events
    -- that ended before it may have been removed; payments and transfers stay).
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE streams (
    -- A stream that was deleted and created again counts from 1 again: its creation time is part of its identity.
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    high_water INTEGER NOT NULL,    -- highest sequence with a recorded end; events above it have none
    UNIQUE (name, created_ms)
) STRICT;

CREATE TABLE payments (
    -- One row per payment_id that was claimed or ended by its rail or the book. An event that our rules refused
    -- leaves no row here: a corrected event with the same payment_id is judged anew.
    id INTEGER PRIMARY KEY,         -- the number of its transfer as well
    payment_id TEXT NOT NULL,
    fingerprint BLOB NOT NULL,      -- SHA-256 of what was asked for
    fp_version INTEGER NOT NULL,    -- of the rule that made the fingerprint
    state TEXT NOT NULL CHECK (state IN ('open', 'held', 'freed', 'settled', 'rejected')),
                                    -- open: given to a rail or waiting to be; held: for a person;
                                    -- freed: nothing reached a rail and the event ended, the id may be used again
    stream INTEGER NOT NULL,        -- streams.id of the event it stands for
    sequence INTEGER NOT NULL,
    scheme TEXT NOT NULL,
    order_key TEXT NOT NULL,
    lane TEXT NOT NULL,
    rail TEXT NOT NULL,             -- 'book', or the rail of the last attempt
    rail_ref TEXT,                  -- the rail's reference, where settled
    currency TEXT NOT NULL,
    minor INTEGER NOT NULL CHECK (minor > 0),
    end_to_end_id TEXT,
    instruction_id TEXT,
    uetr TEXT,
    requested_at INTEGER NOT NULL,  -- the broker's timestamp of the event
    finished_at INTEGER,            -- when its end became durable
    late INTEGER NOT NULL,          -- 1: executed after the requested date
    attempts INTEGER NOT NULL,      -- that may have reached a rail
    last_attempt INTEGER NOT NULL,  -- number of the last attempt
    reasons TEXT,                   -- JSON, where rejected
    claim_owner TEXT,               -- process and event that work on it
    claim_until INTEGER,
    fence INTEGER NOT NULL,         -- grows at each takeover
    deliveries INTEGER NOT NULL,    -- how often an event asked for it
    reserved TEXT                   -- 'YYYY-MM-DD <account key>': of whose limit on which day, while not final
) STRICT;
CREATE UNIQUE INDEX payments_by_id ON payments (payment_id);
CREATE INDEX payments_by_event ON payments (stream, sequence);
CREATE INDEX payments_unfinished ON payments (state, claim_until) WHERE state IN ('open', 'held');

CREATE TABLE accounts (
    -- The book. Both counters only grow; balance = credits_posted - debits_posted.
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL,              -- 'iban:<IBAN>' or 'other:<scheme>:<id>'
    currency TEXT NOT NULL,
    debits_posted INTEGER NOT NULL CHECK (debits_posted >= 0),
    credits_posted INTEGER NOT NULL CHECK (credits_posted >= 0),
    overdraft INTEGER NOT NULL,     -- 1: debits may exceed credits
    opened_at INTEGER NOT NULL,
    UNIQUE (key, currency)
) STRICT;

CREATE TABLE transfers (
    -- Money that moved: one debit, one credit, one currency. Never changed, never removed.
    payment INTEGER PRIMARY KEY,    -- payments.id: at most one transfer per payment
    debit_account INTEGER NOT NULL, -- accounts.id
    credit_account INTEGER NOT NULL,
    currency TEXT NOT NULL,
    minor INTEGER NOT NULL CHECK (minor > 0),
    posted_at INTEGER NOT NULL
) STRICT;
CREATE TRIGGER transfers_stay BEFORE UPDATE ON transfers
    BEGIN SELECT RAISE(ABORT, 'a transfer is never changed'); END;
CREATE TRIGGER transfers_remain BEFORE DELETE ON transfers
    BEGIN SELECT RAISE(ABORT, 'a transfer is never removed'); END;

CREATE TABLE events (
    -- Events that ended otherwise than as the one their payment stands for.
    stream INTEGER NOT NULL,        -- streams.id
    sequence INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('rejected', 'duplicate', 'condemned')),
    payment_id TEXT,                -- where it could be read
    code TEXT,                      -- of the leading reason
    reasons TEXT,                   -- JSON
    scheme TEXT NOT NULL,
    order_key TEXT NOT NULL,
    lane TEXT NOT NULL,
    end_to_end_id TEXT,
    instruction_id TEXT,
    uetr TEXT,
    currency TEXT,                  -- where the amount could be read
    minor INTEGER,
    requested_at INTEGER NOT NULL,
    first_seen INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    at INTEGER NOT NULL,            -- when its end became durable
    PRIMARY KEY (stream, sequence)
) STRICT, WITHOUT ROWID;
CREATE INDEX events_by_payment ON events (payment_id);

CREATE TABLE spending (
    -- What a debtor's account has spent of its limit on a day, reserved sums included. Only where there is a limit;
    -- days of two months ago are removed as new ones come.
    day TEXT NOT NULL,              -- YYYY-MM-DD in the scheme's zone
    account TEXT NOT NULL,          -- as accounts.key
    currency TEXT NOT NULL,
    minor INTEGER NOT NULL CHECK (minor >= 0),
    PRIMARY KEY (day, account, currency)
) STRICT, WITHOUT ROWID;

CREATE TABLE attempts (
    -- One row per attempt over a rail, written before a byte leaves. Without an answer it may have reached the rail.
    payment INTEGER NOT NULL,       -- payments.id
    number INTEGER NOT NULL,        -- from 1, over all legs
    leg INTEGER NOT NULL,           -- rail key = function of payment_id and leg
    rail TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    answer TEXT CHECK (answer IN ('settled', 'rejected', 'resubmit', 'not_sent')),
    answered_at INTEGER,            -- NULL with an answer: a person's word
    not_found INTEGER NOT NULL,     -- inquiries past the rail's longest execution time that did not find it
    PRIMARY KEY (payment, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE tracker (
    -- Payments that the store owns in place of their events, which are acknowledged: the rail is late. A row goes when
    -- the payment has its end and its outcome event is confirmed. It holds the message as the publisher sent it.
    payment INTEGER PRIMARY KEY,    -- payments.id
    lane TEXT NOT NULL,             -- that sweeps it, and whose bound it counts against
    currency TEXT NOT NULL,
    minor INTEGER NOT NULL,
    since INTEGER NOT NULL,
    due INTEGER NOT NULL,           -- when a sweep may take it next
    sweeps INTEGER NOT NULL,        -- so far; from 0 again at the payment's end
    headers TEXT NOT NULL,          -- JSON: names and values
    body BLOB NOT NULL
) STRICT;
CREATE INDEX tracker_by_due ON tracker (lane, due);

CREATE TABLE notes (
    -- Lines of a payment's life: delays and why. The latest 64 per payment are kept.
    payment_id TEXT NOT NULL,
    at INTEGER NOT NULL,
    what TEXT NOT NULL,
    breaker TEXT NOT NULL,          -- closed, open, half_open
    PRIMARY KEY (payment_id, at, what)
) STRICT, WITHOUT ROWID;

CREATE TABLE starts (
    -- Events whose handling was started after an earlier one had not ended: the poison guard's count.
    stream INTEGER NOT NULL,        -- streams.id
    sequence INTEGER NOT NULL,
    count INTEGER NOT NULL,
    first_at INTEGER NOT NULL,
    PRIMARY KEY (stream, sequence)
) STRICT, WITHOUT ROWID;
";

/// Version 2.
const IN_PROGRESS: &str = "
-- When the rail said last that it works on the attempt; NULL where it never did, or has said otherwise since.
ALTER TABLE attempts ADD COLUMN in_progress_at INTEGER;
";
