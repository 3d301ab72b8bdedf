-- Movements of kind `suspense` (core/suspense): found at each start, and there are hardly any.
CREATE INDEX suspense_of ON ledger (account) WHERE kind = 'suspense';
