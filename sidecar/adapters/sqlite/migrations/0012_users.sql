-- Who may use the page (core/users).
CREATE TABLE users (
    entry INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL,
    password_hash TEXT,                 -- Argon2's text; NULL: a reverse proxy says who it is
    enabled INTEGER NOT NULL
) STRICT;
