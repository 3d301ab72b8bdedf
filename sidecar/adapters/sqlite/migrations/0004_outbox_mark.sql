-- Nearly all records are acknowledged in the order of their numbers, so the outbox is a mark. What waits for the broker:
-- the records above store.acknowledged_seq, and those at or below it that `outbox_behind` names (passed over because the
-- broker refused them for now, dead letters that are tried again, damaged ones).
ALTER TABLE outbox RENAME TO outbox_behind;
ALTER TABLE store ADD COLUMN acknowledged_seq INTEGER NOT NULL DEFAULT 0;
UPDATE store SET acknowledged_seq = head_seq;
-- When the record was written: the age of the oldest that waits. 0 in records of before, which are all below the mark.
ALTER TABLE cdrs ADD COLUMN written_wall_ns INTEGER NOT NULL DEFAULT 0;
