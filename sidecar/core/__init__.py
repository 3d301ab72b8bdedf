"""The pure core: no IO, no clock, no randomness, no asyncio, no logging. Time is an argument."""
