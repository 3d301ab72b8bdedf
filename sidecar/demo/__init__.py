"""`make demo`: nine real SIP calls through a real sidecar, and a table of the CDRs that came over MQTT.

calls         the nine calls, and by hand what each of their CDRs must say
children      child processes: the daemon, SIPp, the `sidecar` command; addresses of our own
subscriber    an MQTT subscriber that knows nothing of the sidecar's code: aiomqtt and msgpack alone
check         whether a CDR is what its call was; the table
__main__      the play: start, calls in parallel, table, summary; exit status 0 only if every CDR is right
"""
