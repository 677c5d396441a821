"""`python -m bridge` is `callbridge`."""

from bridge.cli.main import main

main()
