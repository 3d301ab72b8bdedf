-- On what terms an account pays (core/account_terms) beside its currency and whether it is prepaid: JSON, NULL where there
-- is nothing more to say.
ALTER TABLE accounts ADD COLUMN terms TEXT;
-- Who booked a movement, as claimed, and why; NULL where no person did.
ALTER TABLE ledger ADD COLUMN operator TEXT;
ALTER TABLE ledger ADD COLUMN text TEXT;
CREATE INDEX ledger_by_account ON ledger (account);
-- What was booked under a reference whose movement was archived; NULL in those of before.
ALTER TABLE kept_references ADD COLUMN kind TEXT;
ALTER TABLE kept_references ADD COLUMN amount TEXT;
