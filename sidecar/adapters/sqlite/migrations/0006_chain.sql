-- The chain of commits (core/chain): one row for each commit that added something for good. `seq`, `suppressed`,
-- `ledger` and `audit` are the last rows of those tables up to it, NULL where that is as in the row before; now and
-- then a row names all four, so that a reader may begin there. Only added to.
CREATE TABLE commits (
    number INTEGER PRIMARY KEY,
    key INTEGER NOT NULL,               -- of chain_keys
    seq INTEGER,
    suppressed INTEGER,
    ledger INTEGER,
    audit INTEGER,
    hash BLOB NOT NULL
) STRICT;
CREATE TRIGGER commits_are_not_changed BEFORE UPDATE ON commits
BEGIN SELECT RAISE(ABORT, 'the chain is never changed'); END;
-- Which keys made it; the secrets are in a file of their own.
CREATE TABLE chain_keys (
    key INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    since_wall_ns INTEGER NOT NULL
) STRICT;
-- How far the chain goes: the number of the last commit, the hash of the last link, the sum over what changes, and the
-- seal over these and the two marks.
ALTER TABLE store ADD COLUMN commit_number INTEGER NOT NULL DEFAULT 0;
ALTER TABLE store ADD COLUMN commit_hash BLOB NOT NULL DEFAULT x'';
ALTER TABLE store ADD COLUMN state_sum BLOB NOT NULL DEFAULT x'';
ALTER TABLE store ADD COLUMN chain_key INTEGER NOT NULL DEFAULT 0;
ALTER TABLE store ADD COLUMN seal BLOB NOT NULL DEFAULT x'';
-- A link holds the personal part of a record by a salted digest. Erasing takes part and salt away and leaves the digest
-- in `personal`. Both are NULL in records of before.
ALTER TABLE cdr_bodies ADD COLUMN salt BLOB;
ALTER TABLE cdr_bodies ADD COLUMN personal BLOB;
ALTER TABLE suppressed ADD COLUMN salt BLOB;
ALTER TABLE suppressed ADD COLUMN personal BLOB;
-- 1: the epoch ended while the call was open, so a record of it that was lost may have been published.
ALTER TABLE open_calls ADD COLUMN maybe_told INTEGER NOT NULL DEFAULT 0;
