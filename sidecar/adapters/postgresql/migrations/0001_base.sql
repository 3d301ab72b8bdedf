-- The books of all nodes in one database. The files after this one say what was changed since.
--
-- As in the journal of one node (adapters/sqlite/migrations): times are nanoseconds (`_ns`) or microseconds (`_us`)
-- since 1970 UTC, a call_id is the 16 bytes of its UUID, a body comes with its checksum. Amounts are NUMERIC, exact to
-- any number of digits. Every row names the boot that wrote it, and with it the epoch and the node.
--
-- Nothing is partitioned by month yet: (call_id, revision) is unique over all of it, which no partitioned table can
-- promise, and one record of each call is worth more than a quicker removal.

CREATE TABLE epochs (
    epoch INTEGER GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    node TEXT NOT NULL,
    name TEXT NOT NULL UNIQUE,                  -- as subscribers know it
    created_wall_ns BIGINT NOT NULL,
    boot INTEGER,                               -- who may write in it: a commit of any other is refused
    commits BIGINT NOT NULL DEFAULT 0,          -- the number of the last one: its id, should its outcome be unknown
    base_seq BIGINT NOT NULL DEFAULT 0,         -- numbers of a node go on over its epochs: the first here is behind it
    head_seq BIGINT NOT NULL DEFAULT 0,         -- the last number that was given
    acknowledged_seq BIGINT NOT NULL DEFAULT 0, -- the highest that the broker has answered
    -- How far the chain of the node goes (postgresql/chain.py): on from the epoch before.
    link BIGINT NOT NULL DEFAULT 0,
    link_hash BYTEA NOT NULL DEFAULT '',
    place TEXT NOT NULL DEFAULT '',             -- which database it was written to last (boots.py); empty: a journal that moved
    -- Of the process that writes in it: it lives until its lease is over, by the clock of the database. Each commit
    -- begins the lease anew.
    tenant TEXT NOT NULL DEFAULT '',
    writer TEXT NOT NULL DEFAULT '',            -- as which node it was started: another one where it has taken over
    heard_at TEXT NOT NULL DEFAULT '',          -- where it hears SIP: `udp:192.0.2.1:5060`, with spaces between
    lease_s DOUBLE PRECISION NOT NULL DEFAULT 0,
    leased_until TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE nodes (
    node TEXT PRIMARY KEY,
    epoch INTEGER NOT NULL REFERENCES epochs    -- in which it writes
);
CREATE TABLE boots (
    boot INTEGER GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    epoch INTEGER NOT NULL REFERENCES epochs,
    boot_id TEXT NOT NULL,
    started_wall_ns BIGINT NOT NULL,
    heartbeat_wall_ns BIGINT NOT NULL,          -- the last moment at which this boot is known to have lived
    heartbeat_mono_ns BIGINT NOT NULL,
    chain_key TEXT NOT NULL                     -- the id of the key under which it writes
);

-- BYEs that came to a node that did not know their call: it may be one of a node that is dead, and not taken over yet.
CREATE TABLE stray_byes (
    heard_wall_ns BIGINT NOT NULL,
    body TEXT NOT NULL                          -- JSON (core/events.StrayBye)
);
CREATE INDEX stray_byes_by_time ON stray_byes (heard_wall_ns);

CREATE TABLE open_calls (
    node TEXT NOT NULL,                         -- whose call it is
    slot BIGINT NOT NULL,
    boot INTEGER NOT NULL REFERENCES boots,
    call_id BYTEA NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    account TEXT,
    currency TEXT,
    reserved NUMERIC,
    granted_s INTEGER,
    body BYTEA NOT NULL,
    crc BIGINT NOT NULL,
    maybe_told INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (node, slot)
);
CREATE INDEX open_calls_by_account ON open_calls (account);

CREATE TABLE cdrs (
    epoch INTEGER NOT NULL REFERENCES epochs,
    seq BIGINT NOT NULL,
    written_wall_ns BIGINT NOT NULL,
    link BIGINT NOT NULL,                       -- which commit of its node's chain has written it
    boot INTEGER NOT NULL REFERENCES boots,
    call_id BYTEA NOT NULL,
    revision INTEGER NOT NULL,
    account TEXT NOT NULL,
    origin TEXT NOT NULL,
    reason TEXT,
    detail TEXT NOT NULL,
    gateway TEXT,
    ended_us BIGINT NOT NULL,
    caller TEXT NOT NULL,
    callee TEXT NOT NULL,
    billed TEXT,
    found_by BYTEA NOT NULL,
    body BYTEA NOT NULL,
    crc BIGINT NOT NULL,
    salt BYTEA,                                 -- of the digest of the personal part (core/chain); NULL: it was erased,
    personal BYTEA,                             -- and this is the digest
    link_hash BYTEA,                            -- of the commit, in the last row of it
    PRIMARY KEY (epoch, seq),
    UNIQUE (call_id, revision)
);
CREATE INDEX cdrs_by_account ON cdrs (account, epoch, seq);
CREATE INDEX cdrs_by_end ON cdrs (ended_us, epoch, seq);

CREATE TABLE suppressed (
    entry BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    link BIGINT NOT NULL,
    boot INTEGER NOT NULL REFERENCES boots,
    call_id BYTEA NOT NULL,
    revision INTEGER NOT NULL,
    account TEXT NOT NULL,
    origin TEXT NOT NULL,
    reason TEXT,
    detail TEXT NOT NULL,
    gateway TEXT,
    ended_us BIGINT NOT NULL,
    caller TEXT NOT NULL,
    callee TEXT NOT NULL,
    billed TEXT,
    found_by BYTEA NOT NULL,
    body BYTEA NOT NULL,
    crc BIGINT NOT NULL,
    salt BYTEA,
    personal BYTEA,
    link_hash BYTEA,
    UNIQUE (call_id, revision)
);
CREATE INDEX suppressed_by_end ON suppressed (ended_us, entry);

-- Numbers at or below the mark of their epoch that wait for the broker all the same.
CREATE TABLE outbox_behind (
    epoch INTEGER NOT NULL,
    seq BIGINT NOT NULL,
    queued_wall_ns BIGINT NOT NULL,
    PRIMARY KEY (epoch, seq),
    FOREIGN KEY (epoch, seq) REFERENCES cdrs
);
CREATE TABLE dead_letters (
    epoch INTEGER NOT NULL,
    seq BIGINT NOT NULL,
    boot INTEGER NOT NULL REFERENCES boots,
    reason_code INTEGER NOT NULL,
    reason_name TEXT NOT NULL,
    died_wall_ns BIGINT NOT NULL,
    PRIMARY KEY (epoch, seq),
    FOREIGN KEY (epoch, seq) REFERENCES cdrs
);
CREATE TABLE refusals (
    entry BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    node TEXT NOT NULL,
    call_id BYTEA NOT NULL UNIQUE,
    body BYTEA NOT NULL,
    crc BIGINT NOT NULL,
    maybe_told INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE accounts (
    name TEXT COLLATE "C" PRIMARY KEY,          -- ordered as SQLite orders them, whatever the database does
    boot INTEGER NOT NULL REFERENCES boots,
    currency TEXT NOT NULL,
    prepaid INTEGER NOT NULL,
    terms TEXT,                                 -- JSON (core/account_terms)
    created_wall_ns BIGINT NOT NULL
);
CREATE TABLE account_addresses (
    entry BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    block TEXT COLLATE "C" NOT NULL UNIQUE,
    account TEXT NOT NULL,
    boot INTEGER NOT NULL REFERENCES boots,
    created_wall_ns BIGINT NOT NULL
);
CREATE INDEX account_addresses_of ON account_addresses (account);
CREATE TABLE balances (
    account TEXT COLLATE "C" NOT NULL,
    currency TEXT COLLATE "C" NOT NULL,
    boot INTEGER NOT NULL REFERENCES boots,
    amount NUMERIC NOT NULL,
    PRIMARY KEY (account, currency)
);
-- What a node holds of an account for the time when the database is away (core/tranches); whoever moves it holds the
-- balance locked.
CREATE TABLE tranches (
    node TEXT COLLATE "C" NOT NULL,
    account TEXT COLLATE "C" NOT NULL,
    currency TEXT COLLATE "C" NOT NULL,
    boot INTEGER NOT NULL REFERENCES boots,
    amount NUMERIC NOT NULL CHECK (amount > 0),
    PRIMARY KEY (node, account, currency)
);
CREATE INDEX tranches_by_account ON tranches (account);
-- Who books holds the balance locked, so the entries of one account and currency are in the order of its commits.
CREATE TABLE ledger (
    entry BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    link BIGINT NOT NULL,
    boot INTEGER NOT NULL REFERENCES boots,
    account TEXT NOT NULL,
    currency TEXT NOT NULL,
    kind TEXT NOT NULL,
    amount NUMERIC NOT NULL,
    balance NUMERIC NOT NULL,
    call_id BYTEA,
    revision INTEGER,
    reference TEXT,
    booked_wall_ns BIGINT NOT NULL,
    operator TEXT,
    text TEXT,
    link_hash BYTEA
);
CREATE INDEX ledger_by_account ON ledger (account, entry);
CREATE INDEX charges_by_call ON ledger (call_id) WHERE kind = 'charge';
CREATE INDEX charges_by_time ON ledger (account, currency, booked_wall_ns) WHERE kind = 'charge';
CREATE INDEX suspense_of ON ledger (account) WHERE kind = 'suspense';
CREATE UNIQUE INDEX ledger_by_reference ON ledger (account, reference) WHERE reference IS NOT NULL;

-- References of movements that an SQLite journal had archived before it was moved here: they are booked once.
CREATE TABLE kept_references (
    account TEXT NOT NULL,
    reference TEXT NOT NULL,
    kind TEXT,                                  -- NULL, as the amount: not kept
    amount NUMERIC,
    PRIMARY KEY (account, reference)
);

-- Peers, gateways, routes and account rules made by command (core/stored): of each node its own.
CREATE TABLE stored_entries (
    node TEXT NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,             -- the table of a profile: peers, gateways, routes, account_rules
    name TEXT COLLATE "C" NOT NULL,
    place INTEGER NOT NULL,                     -- their order
    first INTEGER NOT NULL,                     -- 1: before those of the files
    fields TEXT NOT NULL,                       -- JSON, as TOML would say it
    operator TEXT NOT NULL,
    uid BIGINT,
    at_wall_ns BIGINT NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (node, kind, name)
);
-- Who may use the page (core/users), of whichever node.
CREATE TABLE users (
    name TEXT COLLATE "C" PRIMARY KEY,
    role TEXT NOT NULL,
    password_hash TEXT,                         -- Argon2's text; NULL: a reverse proxy says who it is
    enabled INTEGER NOT NULL
);

CREATE TABLE audit (
    entry BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    link BIGINT NOT NULL,
    boot INTEGER NOT NULL REFERENCES boots,
    at_wall_ns BIGINT NOT NULL,
    operator TEXT NOT NULL,
    uid BIGINT,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    before TEXT,
    after TEXT,
    text TEXT NOT NULL,
    link_hash BYTEA
);

-- Records in which a pseudonym stands for a number since. An audit entry is of the same commit.
CREATE TABLE erased (
    entry BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    link BIGINT NOT NULL,
    call_id BYTEA NOT NULL,
    revision INTEGER NOT NULL,
    crc_before BIGINT NOT NULL,
    crc BIGINT NOT NULL,
    boot INTEGER NOT NULL REFERENCES boots,
    erased_wall_ns BIGINT NOT NULL
);
CREATE INDEX erased_of ON erased (call_id, revision);

-- Records that were archived and removed (sidecar retention archive).
CREATE TABLE archives (
    entry BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    until_us BIGINT NOT NULL,                   -- of calls that ended before
    archive TEXT NOT NULL,                      -- the SHA-256 of its manifest
    suppressed BIGINT NOT NULL,                 -- the last of its entries that was kept back
    removed_wall_ns BIGINT NOT NULL
);
CREATE TABLE archived_epochs (
    archive BIGINT NOT NULL REFERENCES archives,
    epoch INTEGER NOT NULL REFERENCES epochs,
    seq BIGINT NOT NULL,                        -- its last number in the archive
    PRIMARY KEY (epoch, archive)
);
-- Of commits of which records were removed: what stood for them in the link, 16 bytes each, in their order, and the hash
-- of the link where one of them had it.
CREATE TABLE archived_links (
    node TEXT NOT NULL,
    link BIGINT NOT NULL,
    boot INTEGER NOT NULL,                      -- that wrote it
    published BYTEA NOT NULL,
    kept_back BYTEA NOT NULL,
    link_hash BYTEA,
    PRIMARY KEY (node, link)
);
-- The last number of an account of which a record was removed.
CREATE TABLE account_heads (
    epoch INTEGER NOT NULL REFERENCES epochs,
    account TEXT NOT NULL,
    seq BIGINT NOT NULL,
    PRIMARY KEY (epoch, account)
);
-- What nodes tell one another (neighbours.py): what each carries, once a second, and how far it has followed the changes
-- of accounts.
CREATE TABLE node_states (
    node TEXT PRIMARY KEY,
    boot INTEGER NOT NULL,
    told_at TIMESTAMPTZ NOT NULL,
    change_seen BIGINT NOT NULL,
    told TEXT NOT NULL                          -- JSON
);
-- What one node is asked to do by another, for a person; gone once it is answered and read.
CREATE TABLE node_requests (
    request BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    node TEXT NOT NULL,
    asked_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    method TEXT NOT NULL,
    params TEXT NOT NULL,                       -- JSON
    operator TEXT NOT NULL,
    uid BIGINT,
    is_taken BOOLEAN NOT NULL DEFAULT FALSE,
    answer TEXT                                 -- JSON
);
CREATE INDEX node_requests_of ON node_requests (node) WHERE NOT is_taken;
-- What nodes tell one another of their fraud rules (neighbours.py). Counts are told anew every second, so that a crash of
-- the server may empty them: they cost no log.
CREATE UNLOGGED TABLE fraud_counts (
    node TEXT PRIMARY KEY,
    told_at TIMESTAMPTZ NOT NULL,               -- when it told something else than before
    counts BYTEA NOT NULL                       -- MessagePack
);
-- Which rule holds which key, on all nodes. The first that finds it is the one that tells it.
CREATE SEQUENCE fraud_changes;
CREATE TABLE fraud_holds (
    rule TEXT NOT NULL,
    key TEXT NOT NULL,
    identity TEXT NOT NULL,                     -- of the rule, with all that it says
    node TEXT NOT NULL,
    measured TEXT NOT NULL,
    since_ms BIGINT NOT NULL,
    until_ms BIGINT,                            -- NULL: an operator lifts it
    is_lifted BOOLEAN NOT NULL DEFAULT FALSE,
    change BIGINT NOT NULL DEFAULT nextval('fraud_changes'),
    changed_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (rule, key)
);
CREATE INDEX fraud_holds_by_change ON fraud_holds (change);
-- Accounts whose terms or address blocks changed, by whomever, in the order of the commits: each node follows them.
CREATE TABLE account_changes (
    change BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account TEXT NOT NULL
);
CREATE FUNCTION accounts_changed() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$ BEGIN
    IF NOT EXISTS (SELECT 1 FROM touched) THEN RETURN NULL; END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended(current_schema() || ' account_changes', 2)); -- numbers in that order
    IF TG_TABLE_NAME = 'accounts' THEN INSERT INTO account_changes (account) SELECT name FROM touched;
    ELSE INSERT INTO account_changes (account) SELECT DISTINCT account FROM touched; END IF;
    PERFORM pg_notify('sidecar', '');
    RETURN NULL;
END $$;
CREATE TRIGGER accounts_are_made AFTER INSERT ON accounts REFERENCING NEW TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION accounts_changed();
CREATE TRIGGER accounts_are_changed AFTER UPDATE ON accounts REFERENCING NEW TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION accounts_changed();
CREATE TRIGGER addresses_are_given AFTER INSERT ON account_addresses REFERENCING NEW TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION accounts_changed();
CREATE TRIGGER addresses_are_taken AFTER DELETE ON account_addresses REFERENCING OLD TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION accounts_changed();

CREATE FUNCTION is_never_changed() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION '%: what was written is never changed', TG_TABLE_NAME; END $$;
CREATE TRIGGER ledger_is_never_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger
    FOR EACH STATEMENT EXECUTE FUNCTION is_never_changed();
CREATE TRIGGER audit_is_never_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION is_never_changed();
CREATE TRIGGER erasures_are_never_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON erased
    FOR EACH STATEMENT EXECUTE FUNCTION is_never_changed();
-- Of a record that is written nothing changes but a number that was erased.
CREATE FUNCTION changes_by_erasure() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$ BEGIN
    IF to_jsonb(NEW) - ARRAY['caller', 'callee', 'billed', 'found_by', 'body', 'crc', 'salt', 'personal']
            IS DISTINCT FROM to_jsonb(OLD) - ARRAY['caller', 'callee', 'billed', 'found_by', 'body', 'crc', 'salt', 'personal']
        OR NOT EXISTS (SELECT 1 FROM erased WHERE call_id = OLD.call_id AND revision = OLD.revision
            AND crc_before = OLD.crc AND crc = NEW.crc)
    THEN RAISE EXCEPTION '%: what was written is never changed', TG_TABLE_NAME; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER cdrs_are_never_changed BEFORE UPDATE ON cdrs
    FOR EACH ROW EXECUTE FUNCTION changes_by_erasure();
CREATE TRIGGER suppressed_are_never_changed BEFORE UPDATE ON suppressed
    FOR EACH ROW EXECUTE FUNCTION changes_by_erasure();
