"""`python -m workers.cli`: the same as the command `scorefold`."""

from workers.cli.main import main

main()
