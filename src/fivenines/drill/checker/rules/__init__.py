"""The rules, a file for each family: each a function that looks at a case and yields what is wrong with it.

The search for an order stands apart: it costs the most, and also tells how much of it was given up.
"""

from fivenines.drill.checker.case import Rule
from fivenines.drill.checker.rules.answers import contradicted, done_though_refused, doubled, lost
from fivenines.drill.checker.rules.books import beyond_limits, differing_books, unbalanced_books
from fivenines.drill.checker.rules.histories import broken_chain, differing_archives, differing_histories, unheard
from fivenines.drill.checker.rules.holds import holds_settled_twice
from fivenines.drill.checker.rules.order import reordered, stale_linearizable
from fivenines.drill.checker.rules.reads import changed_sums, stale_reads, wrong_reads
from fivenines.drill.checker.rules.searching import Searched, no_order, search

__all__ = ["RULES", "Searched", "no_order", "search"]

RULES: tuple[Rule, ...] = (
    *(lost, doubled, done_though_refused, contradicted),
    *(reordered, stale_linearizable),
    *(wrong_reads, stale_reads, changed_sums),
    *(differing_books, unbalanced_books, beyond_limits),
    holds_settled_twice,
    *(broken_chain, differing_archives, differing_histories, unheard),
)
