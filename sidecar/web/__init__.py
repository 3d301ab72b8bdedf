"""The operators' page: a process of its own, so that no page slows a call. It asks the node at its control
socket, as the command line does, reads the books itself (adapters/store/books), and is told nothing by the
node.

    server    the process: uvicorn, with bounds on connections, heads, and readers that do not read
    guard     each request, before anything else: size, origin, who it is (sessions, throttle), headers
    api       the methods of the control socket, for programs with a token; openapi describes them
    app       the routes, each with the right that it needs
    node      what is asked of the node, and of its books
    command   what takes long, asked of the command line as a child: price lists, decks weighed
    making    what that takes long is for: a page says that it is being made
    uploads   price lists that somebody looks at, forgotten soon
    now       figures of the last hour, made of what the node counts (figures); and a year back (past)
    revenue   what calls brought in; it and the past are of sums that this process keeps (kept_sums)

What is shown may come from anybody who sends SIP: templates escape it, the browser runs no script but ours
from here, and control characters are shown as what they are (show).
"""
