-- Peers, gateways, routes and account rules made by command (core/stored); what the files say is not here.
CREATE TABLE stored_entries (
    entry INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,                 -- the table of a profile: peers, gateways, routes, account_rules
    name TEXT NOT NULL,
    place INTEGER NOT NULL,             -- their order
    first INTEGER NOT NULL,             -- 1: before those of the files
    fields TEXT NOT NULL,               -- JSON, as TOML would say it
    operator TEXT NOT NULL,
    uid INTEGER,
    at_wall_ns INTEGER NOT NULL,
    text TEXT NOT NULL,
    UNIQUE (kind, name)
) STRICT;
