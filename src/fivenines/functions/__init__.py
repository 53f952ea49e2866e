"""Functions on events: yours are called when something happened in the books, in order for each account.

    import fivenines

    @fivenines.on("transaction.posted", where={"account": "customers:"})
    def tell(event, context):
        print(event.subject, context.event_id)

`fivenines functions run MODULE` starts processes when events wait, more of them while they pile up, and none when
nothing happens. What runs where:

    registry    in your module: `on`, and what it was told
    worker      a process of its own: loads your module and calls the functions, one event at a time
    wire        what runner and worker say to each other
    conditions  which events a function wants
    scaling     how many processes there should be: pure
    pool        the processes
    runner      a lane for each function: order, retries, dead letters (see `fivenines.historian.feed`)
    port        what a runner needs: another way to run functions has the same shape
"""

from fivenines.functions.registry import Context, on

__all__ = ["Context", "on"]
