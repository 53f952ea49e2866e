"""The driver for one machine: regions as loopback addresses or network namespaces, workloads as processes.

`up` starts an `agent` for each region and minds it, as a machine's power and boot do; an agent supervises the workloads
of its region (`supervising`), which `programs` describes; `agent_client` is how controllers and people reach it. When
`up` dies, however it dies, its agents die with it, and with each agent everything in its region.
"""
