-- The last sequence number is kept, not looked up: records may be moved away or lost, and no number may come twice.
-- The row of `store` is there from now on. An empty epoch is one that has ended: whoever opens the file begins a new one.
ALTER TABLE store ADD COLUMN head_seq INTEGER NOT NULL DEFAULT 0;
INSERT INTO store (id, epoch, epoch_base_seq, created_wall_ns) SELECT 1, '', 0, 0 WHERE NOT EXISTS (SELECT 1 FROM store);
UPDATE store SET head_seq = coalesce((SELECT max(seq) FROM cdrs), 0);
