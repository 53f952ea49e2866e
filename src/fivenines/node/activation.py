"""Activation: new rules are put in force by a command in the journal, when every node can run them.

From the position of that command on all replicas decide by the new rules, and writers use their schema. A node that
cannot run them would have to stop there: so the command is not even written while any node that was heard of lately
cannot. One that was silent, and comes back later without them, stops by itself, and says why.
"""

from fivenines.ledger import RULES, Activate, Outcome
from fivenines.node.node import Node

__all__ = ["RulesNotRunnableError", "activate"]


class RulesNotRunnableError(Exception):
    """Some nodes cannot run the rules, or they are older than those in force; nothing was done."""


async def activate(node: Node, version: int) -> int:
    """Put rules in force, and return a position at which they are. Harmless when it is repeated.

    Raises:
        RulesNotRunnableError: it cannot be done; the message names the nodes.
        OverloadedError, JournalError: as `Writer.submit` says.
    """
    in_force = node.state.rules.version
    if version == in_force:
        return node.replica.position
    if version < in_force:
        raise RulesNotRunnableError(f"rules {in_force} are in force, and there is no way back to rules {version}")
    lacking = node.fleet.lacking(version) if node.fleet is not None else []
    if version not in RULES and not lacking:
        lacking = ["this node"]
    if lacking:
        raise RulesNotRunnableError(
            f"rules {version} cannot be run by {', '.join(lacking)}: first let all nodes be of a release that can"
        )
    receipt = await node.writer.submit([Activate(version)])
    if receipt.outcomes != [int(Outcome.done)]:
        # Somebody else was quicker, with these rules or with newer ones.
        return await activate(node, version)
    return receipt.position
