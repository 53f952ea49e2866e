"""Run the `fivenines` that is installed in a folder: `launcher.py FOLDER ARGUMENTS`."""

import sys

sys.path.insert(0, sys.argv.pop(1))

from fivenines.cli import main

sys.argv[0] = "fivenines"
main()
