-- By which Call-IDs, tags and Session-IDs a record is found (core/found_by); NULL in records of before, which a search
-- looks at one by one. It stands in the index that is in the order of the ends, so a search for one of them reads
-- neither rows nor records, and a search in a period that period alone.
ALTER TABLE cdrs ADD COLUMN found_by BLOB;
ALTER TABLE suppressed ADD COLUMN found_by BLOB;
DROP INDEX cdrs_by_end;
DROP INDEX suppressed_by_end;
CREATE INDEX cdrs_by_end ON cdrs (ended_us, seq, found_by);
CREATE INDEX suppressed_by_end ON suppressed (ended_us, entry, found_by);
