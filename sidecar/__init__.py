"""A billing sidecar for SIP. The way of a call, from its first message to the biller, and where each step is:

    SIP message       b2bua/native     bridges two dialogs in pjsip's thread; keeps deadlines, holds answers
    dialog event      b2bua/boundary   decodes core.events; both sides declare the same, which it checks
    call              runtime/calls    the table of calls: asks `decide`, and carries out what it says
    call state        core/decide      decide(call, event, given) -> (call, commands); a table
    account           core/admit       whose call it is (core/account_rules), its price, why it is refused
                                       (by whom core/screening, by which limit core/capacity)
    route             core/routing     which gateways in which order; a group is drawn from by weight
    hangup origin     core/hangup      who ended it, why, until when it is billed; a table
    rating            core/rating      charge(), over core/numbers (stripping) and core/tariff (prefixes)
    record decision   core/records     which record is owed and what keeps it back; the CDR of a call
    bookkeeping       core/books       post(step, view) -> what moves, what is written, what is answered
    journal, outbox   adapters/sqlite  entry, ledger movement and outbox row in one transaction; what is no
                                       engine's of it is in adapters/store; or adapters/postgresql,
                                       as wiring/journal finds it in the settings
    MQTT              runtime/outbox   rows to the broker, in order, until their PUBACK (adapters/mqtt)

Behind the broker, at the biller's, `subscriber` takes every record once, and asks for what is missing.
Beside the calls, runtime/gateways watches where they go: core/gateway_health by OPTIONS, and
core/registration by REGISTER; runtime/names looks up those whose host is a name (core/servers).
core/fraud counts them in windows, and core/fraud_rules says what is refused, ended and told (runtime/alarms).
People watch it on a page (web), a process of its own that asks the node as the command line does.
core/trial puts a call that nobody makes to the same functions (`sidecar route try`).
Settings change while calls run (runtime/reload): each call keeps those that it began under.
While a database is away, core/away decides of new calls with what the node holds of it (core/tranches).
After a crash, core/recovery ends the calls that the journal holds open; those of a node that is dead another
one on its database ends (runtime/takeover, core/takeover). core/chain says what every commit is hashed over,
so that what was changed, removed or cut off afterwards shows.

Imports run one way, and `make check` proves it:

    demo > cli > wiring | web > runtime | adapters | b2bua | config | subscriber > ports > wire > core

The core is pure: no IO, no clock, no chance, no asyncio; time is an argument. Its words are in core/terms,
what happens in core/events, what is to be done in core/commands, the record in core/cdr. `serve` in
wiring/node puts a node together; read it from top to bottom.
"""
