"""`python -m fivenines` is the command `fivenines`."""

from fivenines.cli import main

if __name__ == "__main__":
    main()
