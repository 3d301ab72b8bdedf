"""How values of the core look outside the process: CDRs on MQTT, journal entries on disk, topic names, the
schema.

Pure functions from values to bytes and back. Everything here is versioned; an unknown version is an error
that names it.
"""
