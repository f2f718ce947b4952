"""Cross-labelling, generalized weak supervision (Lien, Zamani and Croft 2024): two rankers label for each other.

Idea: rankers of different architecture err on different items, so each learns from the other's lists.
Differs from the paper: built from its abstract; one ranker is a two-tower method, the other scores a query against each
view of an item; the budget of one ranker is shared by all.
"""

from ftbench import weak


class Method(weak.WeakSupervision):
    roles = ("ranker", "second")

    def teachers(self, role, pool, made):
        return [weak.last(pool, other) for other in self.roles if other != role]
