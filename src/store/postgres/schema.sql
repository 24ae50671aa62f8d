-- Version 1. Instants are timestamptz; amounts are whole minor units.

CREATE TABLE meta (
    -- What holds for the whole store: 'store_id' (a UUID that the consumers' metadata name as well), 'created_at'
    -- (milliseconds since the Unix epoch).
    key text PRIMARY KEY,
    value text NOT NULL
);

CREATE TABLE streams (
    -- A stream that was deleted and created again counts from 1 again: its creation time is part of its identity.
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL,
    created_ms bigint NOT NULL,
    UNIQUE (name, created_ms)
);

-- Numbers are taken in blocks of 4096, one block a process at a time: gaps mean nothing.
CREATE SEQUENCE payment_blocks;
CREATE SEQUENCE account_blocks;

CREATE TABLE payments (
    -- One row per payment_id that was claimed or ended by its rail or the book. An event that our rules refused
    -- leaves no row here: a corrected event with the same payment_id is judged anew.
    id bigint PRIMARY KEY,          -- the number of its transfer as well
    payment_id text COLLATE "C" NOT NULL UNIQUE,
    fingerprint bytea NOT NULL,     -- SHA-256 of what was asked for
    fp_version integer NOT NULL,    -- of the rule that made the fingerprint
    state text NOT NULL CHECK (state IN ('open', 'held', 'freed', 'settled', 'rejected')),
                                    -- open: given to a rail or waiting to be; held: for a person;
                                    -- freed: nothing reached a rail and the event ended, the id may be used again
    stream bigint NOT NULL,         -- streams.id of the event it stands for
    sequence bigint NOT NULL,
    scheme text NOT NULL,
    order_key text NOT NULL,
    lane text NOT NULL,
    rail text NOT NULL,             -- 'book', or the rail of the last attempt
    rail_ref text,                  -- the rail's reference, where settled
    currency text NOT NULL,
    minor bigint NOT NULL CHECK (minor > 0),
    end_to_end_id text,
    instruction_id text,
    uetr text,
    requested_at timestamptz NOT NULL,  -- the broker's timestamp of the event
    finished_at timestamptz,        -- when its end became durable
    late boolean NOT NULL,          -- executed after the requested date
    attempts integer NOT NULL,      -- that may have reached a rail
    last_attempt integer NOT NULL,  -- number of the last attempt
    reasons text,                   -- JSON, where rejected
    claim_owner text,               -- process and event that work on it
    claim_until timestamptz,        -- by the database's clock
    fence bigint NOT NULL,          -- grows at each takeover
    deliveries integer NOT NULL,    -- how often an event asked for it
    reserved text                   -- 'YYYY-MM-DD <account key>': of whose limit on which day, while not final
);
CREATE INDEX payments_by_event ON payments (stream, sequence);
CREATE INDEX payments_unfinished ON payments (id) WHERE state IN ('open', 'held');

CREATE TABLE accounts (
    -- The book. Both counters only grow; balance = credits_posted - debits_posted.
    id bigint PRIMARY KEY,
    key text COLLATE "C" NOT NULL,  -- 'iban:<IBAN>' or 'other:<scheme>:<id>'
    currency text COLLATE "C" NOT NULL,
    debits_posted bigint NOT NULL CHECK (debits_posted >= 0),
    credits_posted bigint NOT NULL CHECK (credits_posted >= 0),
    overdraft boolean NOT NULL,     -- debits may exceed credits
    opened_at timestamptz NOT NULL,
    UNIQUE (key, currency)
) WITH (fillfactor = 70);           -- counters change in place

CREATE TABLE transfers (
    -- Money that moved: one debit, one credit, one currency. Never changed, never removed.
    payment bigint PRIMARY KEY,     -- payments.id: at most one transfer per payment
    debit_account bigint NOT NULL,  -- accounts.id
    credit_account bigint NOT NULL,
    currency text NOT NULL,
    minor bigint NOT NULL CHECK (minor > 0),
    posted_at timestamptz NOT NULL
);
CREATE FUNCTION transfers_stay() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN RAISE EXCEPTION 'a transfer is never changed or removed'; END$$;
CREATE TRIGGER transfers_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON transfers
    FOR EACH STATEMENT EXECUTE FUNCTION transfers_stay();

CREATE TABLE events (
    -- Events that ended otherwise than as the one their payment stands for.
    stream bigint NOT NULL,         -- streams.id
    sequence bigint NOT NULL,
    kind text NOT NULL CHECK (kind IN ('rejected', 'duplicate', 'condemned')),
    payment_id text COLLATE "C",    -- where it could be read
    code text,                      -- of the leading reason
    reasons text,                   -- JSON
    scheme text NOT NULL,
    order_key text NOT NULL,
    lane text NOT NULL,
    end_to_end_id text,
    instruction_id text,
    uetr text,
    currency text,                  -- where the amount could be read
    minor bigint,
    requested_at timestamptz NOT NULL,
    first_seen timestamptz NOT NULL,
    attempts integer NOT NULL,
    at timestamptz NOT NULL,        -- when its end became durable
    PRIMARY KEY (stream, sequence)
);
CREATE INDEX events_by_payment ON events (payment_id);

CREATE TABLE spending (
    -- What a debtor's account has spent of its limit on a day, reserved sums included. Only where there is a limit;
    -- days of two months ago are removed as new ones come.
    day date NOT NULL,              -- in the scheme's zone
    account text COLLATE "C" NOT NULL,  -- as accounts.key
    currency text COLLATE "C" NOT NULL,
    minor bigint NOT NULL CHECK (minor >= 0),
    PRIMARY KEY (day, account, currency)
) WITH (fillfactor = 70);           -- sums change in place

CREATE TABLE attempts (
    -- One row per attempt over a rail, written before a byte leaves. Without an answer it may have reached the rail.
    payment bigint NOT NULL,        -- payments.id
    number integer NOT NULL,        -- from 1, over all legs
    leg smallint NOT NULL,          -- rail key = function of payment_id and leg
    rail text NOT NULL,
    started_at timestamptz NOT NULL,
    answer text CHECK (answer IN ('settled', 'rejected', 'resubmit', 'not_sent')),
    answered_at timestamptz,        -- null with an answer: a person's word
    not_found integer NOT NULL,     -- inquiries past the rail's longest execution time that did not find it
    PRIMARY KEY (payment, number)
);

CREATE TABLE tracker (
    -- Payments that the store owns in place of their events, which are acknowledged: the rail is late. A row goes when
    -- the payment has its end and its outcome event is confirmed. It holds the message as the publisher sent it.
    payment bigint PRIMARY KEY,     -- payments.id
    lane text COLLATE "C" NOT NULL, -- that sweeps it, and whose bound it counts against
    currency text NOT NULL,
    minor bigint NOT NULL,
    since timestamptz NOT NULL,
    due timestamptz NOT NULL,       -- when a sweep may take it next
    sweeps integer NOT NULL,        -- so far; from 0 again at the payment's end
    headers text NOT NULL,          -- JSON: names and values
    body bytea NOT NULL
);
CREATE INDEX tracker_by_due ON tracker (lane, due);

CREATE TABLE notes (
    -- Lines of a payment's life: delays and why. The latest 64 per payment are kept.
    payment_id text COLLATE "C" NOT NULL,
    at timestamptz NOT NULL,
    what text NOT NULL,
    breaker text NOT NULL,          -- closed, open, half_open
    PRIMARY KEY (payment_id, at, what)
);

CREATE TABLE starts (
    -- Events whose handling was started after an earlier one had not ended: the poison guard's count.
    stream bigint NOT NULL,         -- streams.id
    sequence bigint NOT NULL,
    count integer NOT NULL,
    first_at timestamptz NOT NULL,
    PRIMARY KEY (stream, sequence)
);
