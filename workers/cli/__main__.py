"""`python -m workers.cli`: the same as the command `scorefold`."""

from workers.cli.main import main

if __name__ == "__main__":  # training processes import this file again
    main()
