"""Run `fivenines` with something planted that only tests want: `launcher.py '{"quota_mib": 64}' serve ...`.

quota_mib        the members have so small a quota
wrong_position   after the frame at this position, one account holds a unit more than it should, as after a broken bit
"""

import json
import sys
from typing import Any
from unittest.mock import patch

from msgspec.structs import replace

from fivenines.cli import main
from fivenines.cli.etcd import etcd_settings
from fivenines.journal.etcd import EtcdJournalSettings
from fivenines.ledger import Applied, Batch, State, apply

_WRONG_ACCOUNT = "mint"


def plant_quota(mib: int) -> None:
    def with_quota(*arguments: Any) -> EtcdJournalSettings:
        return replace(etcd_settings(*arguments), quota_bytes=mib * 1024 * 1024)

    patch("fivenines.cli.serve.etcd_settings", with_quota).start()


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
    if "quota_mib" in planted:
        plant_quota(planted["quota_mib"])
    if "wrong_position" in planted:
        plant_wrong_state(planted["wrong_position"])
    sys.argv[:] = ["fivenines", *sys.argv[2:]]
    main()
