"""`python -m rlaif` is the `rlaif` command."""

from rlaif.cli.main import main

if __name__ == "__main__":
    main()
