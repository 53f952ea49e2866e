"""Orders: what operators want of the platform, kept in the shared store until they are taken back.

An order is a wish, and nothing is done by giving it: the controllers see it in their next round, and do it as far as
safety lets them. `explain` in `deciding` tells beforehand what that will be.
"""

from fivenines.control.desired import Order
from fivenines.control.store import Store
from fivenines.control.timeline import event_of

__all__ = ["give_order", "take_back_order"]


async def give_order(store: Store, order: Order, *, region: str = "") -> None:
    """Give an order, and write it into the timeline. Raises `StoreError`; it may have been given then.

    Args:
        store: where controllers find it.
        order: what is wanted; it takes the place of one of the same kind for the same target.
        region: where the operator is, if that is known.
    """
    await store.put_order(order)
    override = ", though safety speaks against it" if order.override else ""
    event = event_of(
        at=order.at,
        region=region,
        kind="order",
        what=f"{order.kind} {order.target}, by {order.by}{override}",
        why=order.why,
        target=order.target,
    )
    await store.append([event])


async def take_back_order(store: Store, kind: str, target: str, *, at: float, by: str, region: str = "") -> bool:
    """Take an order back, and write that into the timeline; whether there was one. Raises `StoreError`."""
    if not await store.delete_order(kind, target):
        return False
    event = event_of(at=at, region=region, kind="order", what=f"{kind} {target} taken back, by {by}", target=target)
    await store.append([event])
    return True
