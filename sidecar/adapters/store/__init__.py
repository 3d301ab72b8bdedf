"""The store, whatever engine keeps it: what `sqlite` and `postgresql` have in common, and no SQL.

What a step comes to is core/books; what is here takes it to an engine and back. `store` is the event loop's
side of the Store port (bounded queue, outcomes as events), `pacing` what waits for company, `writer` the
thread that commits many steps together and keeps on while the engine fails, `work` what that is given.
`bodies` and `packing` are how a record is kept.

An engine offers a batch (one transaction: the view that core/books asks, and the rows that it has written),
the faults that may befall it, and how it writes again afterwards.
"""
