"""`python -m sidecar.cli` is `sidecar`."""

from sidecar.cli import main

main()
