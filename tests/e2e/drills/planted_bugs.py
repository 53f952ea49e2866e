"""Bugs to plant into a platform: each is a module's worth of text that a process of it imports at its start.

A Python that finds a `sitecustomize` runs it before anything else; each text looks at its process, and does something
about one kind of it only. The drill that is there for it must then fail.
"""

__all__ = ["DEAD_REGIONS_ARE_NAMED", "EARLY_ACKNOWLEDGEMENT", "NO_RETRY_AT_THE_EDGE"]

NO_RETRY_AT_THE_EDGE = """
import sys
if "agent" in sys.orig_argv:
    import importlib
    # The package's own `config` is the function.
    importlib.import_module("fivenines.traffic.edge.config")._RETRY_ON = "none"
"""
"""An edge that hands every failure of a node to the client."""

EARLY_ACKNOWLEDGEMENT = """
import sys
if "serve" in sys.orig_argv:
    import asyncio, pathlib
    from fivenines.ledger import Outcome, Post, PostOne
    from fivenines.node.writer import Receipt, Writer
    submit, positions, tasks = Writer.submit, [0], set()

    async def later(writer, commands, options):
        await asyncio.sleep(1.0)
        await submit(writer, commands, **options)

    async def early(self, commands, **options):
        is_post = len(commands) == 1 and isinstance(commands[0], Post | PostOne)
        if is_post and positions[0] and pathlib.Path("MARK").exists():
            task = asyncio.create_task(later(self, commands, options))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            return Receipt(positions[0], [Outcome.posted], {})
        receipt = await submit(self, commands, **options)
        positions[0] = max(positions[0], receipt.position)
        return receipt

    Writer.submit = early
"""
"""Nodes that acknowledge a second before they write, from when the file MARK is there."""

DEAD_REGIONS_ARE_NAMED = """
import sys
if "nameserver" in sys.orig_argv:
    import msgspec
    from fivenines.traffic import steering
    begin = steering._Field.__init__

    def with_all(self, table, family):
        alive = [msgspec.structs.replace(each, share=1.0, weight=max(each.weight, 1.0)) for each in table.regions]
        begin(self, msgspec.structs.replace(table, regions=tuple(alive)), family)

    steering._Field.__init__ = with_all
"""
"""Nameservers that name every region, whatever the controllers say."""
