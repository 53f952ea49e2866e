"""The simulator: years of operation of a declared platform, on virtual time, with the real controllers.

`fivenines simulate` is the command, docs/simulator.md the page: the model, its assumptions, and what it cannot say.
(`fivenines.drill.simulation` is another thing: fleets of real nodes on virtual time, for seconds, to find bugs.)

rates.py, rates.yaml       what goes wrong, how often, for how long, and who says so
calibration.py, calibration.json
                           what drills measured on the real platform; calibrate.py writes it anew
setting.py                 what is simulated: counts, never one object for each node
faults.py                  all faults of so many years, drawn ahead, the same for each what-if
world.py                   what is wrong at a moment, and what that means for who asks
caring.py                  the real controllers on virtual time: they see that, and lead traffic
small.py                   what only a node's own clients notice, counted by the year
living.py                  from fault to fault: what clients do without, and whose fault that is
judging.py                 distributions, with bounds
whatif.py                  the one change that would help most

    setting = Setting(platform=..., rates=rates.built_in(), calibration=calibration.built_in())
    lived = live(setting, seed=1, years=1000)
    judged = judge(setting, lived, seed=1)
    better = what_if(setting, lived, seed=1, budget_s=judged.budget_s)
"""

from fivenines.drill.simulator.judging import Judged, judge
from fivenines.drill.simulator.living import Lived, live
from fivenines.drill.simulator.setting import Setting, SettingError
from fivenines.drill.simulator.whatif import WhatIf, what_if

__all__ = ["Judged", "Lived", "Setting", "SettingError", "WhatIf", "judge", "live", "what_if"]
