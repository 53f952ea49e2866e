"""The event feed: what happened in the books, handed on at least once, in order for each account, none skipped.

    source      where events come from: a node's or a historian's `/v1/events`, or a history in SQL
    ordering    which event may go now: pure, no clock and no I/O
    retrying    when to try again, and when to give up: pure
    store       how far everybody is, in SQL: survives a kill at any moment
    lane        one who gets events: reads, orders, delivers, retries, commits
    signing     how a webhook proves who sent it
    webhooks    subscriptions, and their deliveries over HTTP
    pages       all of it over HTTP

Functions on events are lanes, too: see `fivenines.functions`.
"""
