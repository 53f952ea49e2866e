"""Drills: the real thing, real load, real faults, and a judge who trusts nobody.

members.py     the members of an etcd as processes
place.py       where a drill takes place; the simplest one, a process
on_platform.py or a whole platform: a node, the journal's leader, a region killed in turn
running.py     a platform that runs beside a drill, and what may be done to its parts
faults/        what can go wrong on purpose, and is surely undone
supervise.py   starts the ledger as a process of its own, kills it, starts it again
record.py      hears every answer on the wire, and kills when requests are surely under way
replay.py      carries books into the ledger through the client, many requests at a time
stated.py      what the books state by themselves
disk.py        reads the journal with eyes of its own: what was asked, and what that comes to
witness.py     asks a ledger over plain HTTP what it holds, and sends everything once more
checker/       compares what clients were told with what everybody holds, and says what is wrong
chart.py       the course of a drill as a picture: for the terminal, and as SVG
report.py      the report, and build/demo.json
live.py        what is shown meanwhile
demo.py        `make demo`: all of the above, in order
histories.py   clients of several nodes at once, who write down what they were told, and when
linearizability.py, account_model.py
               judge whether a single copy of the accounts could have told them that
load/          clients who ask at a planned rate, in a process of their own
drills/        drills in YAML, from the look before to the judgement
results.py     what came of one, as values
reporting/     the page, JSON and JUnit that tell it
simulator/     years of operation on virtual time, with the real controllers
simulation/    whole fleets on virtual time, from a seed
"""
