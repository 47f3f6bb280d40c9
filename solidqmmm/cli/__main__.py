"""`python -m solidqmmm.cli` is `solidqmmm`."""

from solidqmmm.cli.app import main

if __name__ == "__main__":
    main()
