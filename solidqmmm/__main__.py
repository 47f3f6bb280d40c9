"""`python -m solidqmmm` is the command `solidqmmm`."""

from solidqmmm.cli import main

if __name__ == "__main__":
    main()
