"""What a call costs: `make bench`, or `python -m tests.bench --help`.

__main__    which measurements, in which order, and whether the run is green
places      addresses of our own, and the settings that the figures stand for
load        SIPp as caller and callee: how many calls, how many failed, how long their messages took
process     what the kernel knows of a process: CPU by thread, memory
listener    an MQTT subscriber that only notes what came and when
product     the daemon under load: steps, delays, memory per call
journal     a large journal, made for the run, and the same calls on it
rivals      the same calls through Kamailio and Sippy
endurance   calls of every ending for long, then a burst: whether anything grows (a command of its own)
several     PostgreSQL beside SQLite, and one to three nodes on one database (a command of its own)
curve       what the daemon holds meanwhile
report      figures as a table, as JSON, as a plot
"""
