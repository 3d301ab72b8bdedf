-- Whose calls come from which addresses, as given by command (core/addresses); what the settings say is not here.
CREATE TABLE account_addresses (
    entry INTEGER PRIMARY KEY,
    block TEXT NOT NULL UNIQUE,         -- canonical
    account TEXT NOT NULL,
    boot INTEGER NOT NULL REFERENCES boots,
    created_wall_ns INTEGER NOT NULL
) STRICT;
CREATE INDEX account_addresses_of ON account_addresses (account);
