"""`python -m ftbench`: the same as the `ftbench` command."""

from ftbench.cli import main

if __name__ == "__main__":
    main()
