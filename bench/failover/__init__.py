"""`make bench-failover`: how long clients wait when a process is killed, or a host cut off, here and with Patroni.

settings.py    how PostgreSQL with Patroni, etcd and HAProxy is set up; pure
peer.py        ... and run, on three hosts in network namespaces of their own
ours.py        our platform, on three regions likewise
load.py        the load, the same for both, as a process of its own
senders.py     what a good client of each does to have a transfer acknowledged
trials.py      hit, wait until all is whole, count
sweeping.py    takes away what is left, whatever ended the benchmark
figures.py     what a trial comes to, and all of them; pure
__main__.py    the command, the table, build/failover.json
"""
