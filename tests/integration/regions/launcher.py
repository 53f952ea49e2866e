"""Run `fivenines` with something planted that only tests want: `launcher.py '{"wrong_position": 64}' serve ...`.

wrong_position   after the frame at this position, one account holds a unit more than it should, as after a broken bit
"""

import json
import sys
from unittest.mock import patch

from fivenines.cli import main
from fivenines.ledger import Applied, Batch, State, apply

_WRONG_ACCOUNT = "mint"


def plant_wrong_state(position: int) -> None:
    left = [position]

    def apply_once_wrong(state: State, batch: Batch) -> Applied:
        applied = apply(state, batch)
        if left and state.position >= left[0]:
            left.clear()  # the next node of this process is a sound one
            state.accounts[_WRONG_ACCOUNT].credits += 1
        return applied

    patch("fivenines.node.replica.apply", apply_once_wrong).start()


if __name__ == "__main__":
    planted = json.loads(sys.argv[1])
    plant_wrong_state(planted["wrong_position"])
    sys.argv[:] = ["fivenines", *sys.argv[2:]]
    main()
