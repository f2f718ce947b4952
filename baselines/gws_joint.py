"""Joint cross- and self-labelling, generalized weak supervision (Lien, Zamani and Croft 2024).

Idea: each of two rankers of different architecture learns from the mean of both rankers' lists.
Differs from the paper: built from its abstract; one ranker is a two-tower method, the other scores a query against each
view of an item; the budget of one ranker is shared by all.
"""

from ftbench import weak


class Method(weak.WeakSupervision):
    roles = ("ranker", "second")

    def teachers(self, role, pool, made):
        return [weak.last(pool, other) for other in self.roles]
