-- What store.state_sum is over (changing.py). 0: open calls, balances, accounts and address blocks, as it was before;
-- 1: all that is in no link of the chain, so that no bit of it can change unseen.
ALTER TABLE store ADD COLUMN sum_version INTEGER NOT NULL DEFAULT 0;
