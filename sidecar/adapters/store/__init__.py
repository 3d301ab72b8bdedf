"""The store, whatever engine keeps it: what `sqlite` and `postgresql` have in common.

What a step comes to is core/books; what is here takes it to an engine and back. `store` is the event loop's
side of the Store port (bounded queue, outcomes as events), `pacing` what waits for company, `writer` the
thread that commits many steps together and keeps on while the engine fails, `work` what that is given.
`bodies` and `packing` are how a record is kept, `records` and `search` how it is found, `replay` published
again, `revisions` restated, `retention` rid of a number; `books` is what the page reads.

A port that is the same program on either engine is here whole, with the SQL that both understand: `accounts`,
`audit`, `users`, `revisions`, `suspense`. Of others the rules are here and the SQL is the engine's.

An engine offers a batch (one transaction: the view that core/books asks, and the rows that it has written),
the faults that may befall it, and how it writes again afterwards.
"""
