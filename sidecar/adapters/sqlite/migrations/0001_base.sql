-- journal.db: the system of record of one node. The files after this one say what was changed since.
--
-- Amounts are TEXT holding plain decimals ("-12.345000"), computed by Python's Decimal with inexact results trapped: a
-- tax line may have more decimals than any fixed scale, and a 64-bit scaled integer overflows at 10^9 with ten of them.
-- Times are INTEGER: nanoseconds (`_ns`) or microseconds (`_us`) since 1970 UTC. There is no REAL; STRICT sees to it.
-- Every row names the boot that wrote it, and with it the node and the epoch.

CREATE TABLE store (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    epoch TEXT NOT NULL,                -- new when a file is created, restored or salvaged
    epoch_base_seq INTEGER NOT NULL,    -- the last sequence number before this epoch
    created_wall_ns INTEGER NOT NULL
) STRICT;

CREATE TABLE boots (
    boot INTEGER PRIMARY KEY,
    node TEXT NOT NULL,
    epoch TEXT NOT NULL,
    boot_id TEXT NOT NULL,
    started_wall_ns INTEGER NOT NULL,
    heartbeat_wall_ns INTEGER NOT NULL, -- the last moment at which this boot is known to have lived
    heartbeat_mono_ns INTEGER NOT NULL
) STRICT;

-- One row per call that has no record yet, holding its latest entry: the whole call. The row goes when the record comes,
-- so the table is as large as the calls that are up. Slots only grow within a boot: new calls are written side by side.
CREATE TABLE open_calls (
    slot INTEGER PRIMARY KEY,
    boot INTEGER NOT NULL REFERENCES boots,
    call_id BLOB NOT NULL,
    kind TEXT NOT NULL,
    account TEXT,                       -- whose balance is reserved, what of it, and for how long
    currency TEXT,
    reserved TEXT,
    granted_s INTEGER,
    body BLOB NOT NULL,                 -- wire/entries
    crc INTEGER NOT NULL                -- of the body: SQLite does not notice a flipped bit in it
) STRICT;

-- Published records. The columns are for `cdr search`; the record itself is apart, so that a scan stays small.
CREATE TABLE cdrs (
    seq INTEGER PRIMARY KEY,
    boot INTEGER NOT NULL REFERENCES boots,
    call_id BLOB NOT NULL,
    revision INTEGER NOT NULL,
    account TEXT NOT NULL,
    origin TEXT NOT NULL,
    reason TEXT,
    detail TEXT NOT NULL,
    gateway TEXT,
    caller TEXT NOT NULL,
    callee TEXT NOT NULL,
    billed TEXT,
    ended_us INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX cdrs_by_call ON cdrs (call_id, revision);
CREATE INDEX cdrs_by_account ON cdrs (account);
CREATE INDEX cdrs_by_end ON cdrs (ended_us);

CREATE TABLE cdr_bodies (
    seq INTEGER PRIMARY KEY,
    body BLOB NOT NULL,                 -- wire/cdr_codec, exactly as published
    crc INTEGER NOT NULL
) STRICT;

-- Records that were kept back: no sequence number, never published.
CREATE TABLE suppressed (
    entry INTEGER PRIMARY KEY,
    boot INTEGER NOT NULL REFERENCES boots,
    call_id BLOB NOT NULL,
    revision INTEGER NOT NULL,
    account TEXT NOT NULL,
    origin TEXT NOT NULL,
    reason TEXT,
    detail TEXT NOT NULL,
    gateway TEXT,
    caller TEXT NOT NULL,
    callee TEXT NOT NULL,
    billed TEXT,
    ended_us INTEGER NOT NULL,
    body BLOB NOT NULL,
    crc INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX suppressed_by_call ON suppressed (call_id, revision);
CREATE INDEX suppressed_by_end ON suppressed (ended_us);

-- Published rows that the broker has not acknowledged.
CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY REFERENCES cdrs,
    queued_wall_ns INTEGER NOT NULL
) STRICT;

CREATE TABLE dead_letters (
    seq INTEGER PRIMARY KEY REFERENCES cdrs,
    boot INTEGER NOT NULL REFERENCES boots,
    reason_code INTEGER NOT NULL,       -- of the PUBACK, or 0x95 where the packet was too large to send
    reason_name TEXT NOT NULL,
    died_wall_ns INTEGER NOT NULL
) STRICT;

CREATE TABLE accounts (
    name TEXT PRIMARY KEY,
    boot INTEGER NOT NULL REFERENCES boots,
    currency TEXT NOT NULL,
    prepaid INTEGER NOT NULL,
    created_wall_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What each account may still spend: the sum of its ledger.
CREATE TABLE balances (
    account TEXT NOT NULL,
    currency TEXT NOT NULL,
    boot INTEGER NOT NULL REFERENCES boots,
    amount TEXT NOT NULL,
    PRIMARY KEY (account, currency)
) STRICT, WITHOUT ROWID;

-- Every movement, never changed: top_up (+), reserve (-), release (+), charge (- as a rule; + where a revision is
-- lower), lost (what a damaged file no longer holds).
CREATE TABLE ledger (
    entry INTEGER PRIMARY KEY,
    boot INTEGER NOT NULL REFERENCES boots,
    account TEXT NOT NULL,
    currency TEXT NOT NULL,
    kind TEXT NOT NULL,
    amount TEXT NOT NULL,
    balance TEXT NOT NULL,              -- after this movement
    call_id BLOB,
    revision INTEGER,
    reference TEXT,                     -- of a top-up: the same reference is booked once
    booked_wall_ns INTEGER NOT NULL
) STRICT;
CREATE INDEX charges_by_call ON ledger (call_id) WHERE kind = 'charge';
CREATE UNIQUE INDEX ledger_by_reference ON ledger (account, reference) WHERE reference IS NOT NULL;
CREATE TRIGGER ledger_is_not_changed BEFORE UPDATE ON ledger
BEGIN SELECT RAISE(ABORT, 'the ledger is never changed'); END;
CREATE TRIGGER ledger_is_not_deleted BEFORE DELETE ON ledger
BEGIN SELECT RAISE(ABORT, 'the ledger is never changed'); END;

-- Written and removed to see whether the disk has room again.
CREATE TABLE probe (body BLOB NOT NULL) STRICT;
