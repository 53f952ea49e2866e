"""Drills: written in YAML, carried out on a real platform under real load, stopped at once when they do harm.

experiment.py  the open experiment format of Chaos Toolkit, as types
reading.py     from a file to a `Drill`; checking.py finds what no type can
tolerance.py, substituting.py
               what a probe may find, and values that are written ${name}
scene.py       what probes and actions get
probes.py, actions.py
               what a drill can look at and do; faults are in `fivenines.drill.faults`
providing.py   one activity, carried out
restoring.py   all regions are lost, and the ledger is built again
guarding.py    when a drill may not begin, and when it must stop
watching.py    what agents do about their parts meanwhile
announcing.py  for whoever is on duty: that a drill begins, and ends
runner.py      one drill, from the look before it to its result
session.py     several, on one platform; found.py is one that somebody else runs
measuring.py   what came of it: slices of time, and how long detecting, deciding, acting and draining took
clients.py, judging.py
               the load, and the checker
soak.py        random faults by seed, two at once where that must be harmless
days.py        game days: what is due, what is overdue, what was done
choosing.py    the catalogue, and which drills of it
showing.py     for the terminal
"""
