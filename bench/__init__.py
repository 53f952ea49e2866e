"""Benchmarks of fivenines and, in the same run, of what a user would pick instead.

`python -m bench` measures everything and prints one table; `harness` runs, `catalogue` lists, `peers` holds the others,
`report` writes. Servers and their data live in a folder of their own under `build/`, on a real disk, and are gone
afterwards. The load comes from other processes, which share the machine with the servers, as the figures say.
"""
