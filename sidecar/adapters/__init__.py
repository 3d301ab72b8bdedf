"""Thin translators between the ports and the outside. They never import one another; wiring chooses."""
