"""The control plane: small loops that look at what is, compare it with what should be, and act on the difference.

`desired` is what should be, `observed` what is, `actions` what can be done about it. Each file in `controllers` has
one pure function, `decide(desired, observed, now)`, which knows no process, clock or network. `loop` gathers, decides,
holds the decisions against the rules of `safety`, has a driver carry them out and writes the timeline. `store` is what
the regions' controllers share, in the journal's etcd. Which driver it is, nobody here knows.
"""
