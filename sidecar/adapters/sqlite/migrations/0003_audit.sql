-- What people changed (core/audit), in the transaction of the change. Only added to, as the ledger is.
CREATE TABLE audit (
    entry INTEGER PRIMARY KEY,
    boot INTEGER NOT NULL REFERENCES boots,
    at_wall_ns INTEGER NOT NULL,
    operator TEXT NOT NULL,             -- as claimed
    uid INTEGER,                        -- as the kernel said; NULL: not over the control socket
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    before TEXT,                        -- JSON
    after TEXT,
    text TEXT NOT NULL
) STRICT;
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit table is never changed'); END;
CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit table is never changed'); END;
