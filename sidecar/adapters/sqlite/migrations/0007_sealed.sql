-- What was archived and removed (sidecar retention): the last commit that is no longer here, and the last rows of each
-- table up to it. Its row in `commits` stays, with all of them named: the chain goes on behind it.
CREATE TABLE sealed (
    number INTEGER PRIMARY KEY,
    hash BLOB NOT NULL,
    seq INTEGER NOT NULL,
    suppressed INTEGER NOT NULL,
    ledger INTEGER NOT NULL,
    audit INTEGER NOT NULL,
    until_us INTEGER NOT NULL,          -- calls that ended before
    archive TEXT NOT NULL,              -- the SHA-256 of its manifest
    removed_wall_ns INTEGER NOT NULL
) STRICT;
-- What removed rows are still asked for: references of top-ups, which are booked once, and the last number of an account.
CREATE TABLE kept_references (
    entry INTEGER PRIMARY KEY,
    account TEXT NOT NULL,
    reference TEXT NOT NULL,
    UNIQUE (account, reference)
) STRICT;
CREATE TABLE account_heads (
    entry INTEGER PRIMARY KEY,
    account TEXT NOT NULL UNIQUE,
    seq INTEGER NOT NULL
) STRICT;
-- Movements are removed only where they were archived; what they came to stays, as movements of kind `carried`.
DROP TRIGGER ledger_is_not_deleted;
CREATE TRIGGER ledger_is_not_deleted BEFORE DELETE ON ledger
WHEN OLD.entry > (SELECT coalesce(max(ledger), 0) FROM sealed)
BEGIN SELECT RAISE(ABORT, 'the ledger is never changed'); END;
