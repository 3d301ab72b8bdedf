"""Chooses the adapters from the settings and puts one node together: the only package that sees runtime and
adapters. `node.serve` is the node.
"""
