"""What starts a node, for every test that needs a whole one: SIPp, Kamailio, faults, bench.

    addresses   loopback networks and free ports
    node        the daemon as a child process: settings, profile, restart, metrics, proof of its books
    listener    a subscriber that keeps its session, and what must hold of the records that it got
    broker      a Mosquitto of the test's own, which outlives the node

What differs is an argument or a subclass: the profile, and the peers around the node (tests/sipp/rig: SIPp
pairs, tests/kamailio/rig: the same through a proxy, tests/stacks/rig: baresip and pjsua2, tests/faults/node:
phones, tests/bench/product: load).
Tests of the bridge alone have its hook in their own process, without a node: tests/b2bua/rig, and tests/fuzz
on top of it.
"""
