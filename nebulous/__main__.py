"""`python -m nebulous` is `nebu`."""

from nebulous.cli.main import main

main()
