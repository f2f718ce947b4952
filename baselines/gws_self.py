"""Self-labelling, generalized weak supervision (Lien, Zamani and Croft 2024): a ranker labels for its next generation.

Idea: a ranker that learned from weak labels ranks better than they do; its own lists, mixed with the weak labels, teach
the next one. With mix=posterior and start=previous this is near generalised expectation-maximisation, whose guarantee
is lost where lists are cut off (ftbench/latent.py); `observed` in the record says how its objective went.
Differs from the paper: built from its abstract; rankers are over an item's views; the budget is that of one ranker.
"""

from ftbench import weak


class Method(weak.WeakSupervision):
    def teachers(self, role, pool, made):
        return [weak.last(pool, role)]
