"""Traffic: how clients reach a region that serves, and in it a node that serves.

`table` is what a nameserver answers by, `steering` chooses among its regions, `nameserver` speaks DNS. `edge` is
HAProxy as we configure and lead it. Nothing here decides which region is well: that is `fivenines.control`'s.
"""
