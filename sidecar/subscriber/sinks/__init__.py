"""Where records are kept. Each sink keeps a record and the position that counts it together: whatever is
killed at whatever moment, a record is in it once, or it comes again."""
