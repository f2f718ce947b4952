"""Weak supervision (Dehghani et al. 2017): a ranker trained once on what a weak labeller ranks.

Idea: bm25 needs no training data; a ranker that learns from its lists sees what words alone do not, images and all.
Differs from the paper: its rankers are networks over words; ours is a two-tower method over an item's views.
"""

from dataclasses import dataclass

from ftbench import weak


class Method(weak.WeakSupervision):
    @dataclass(frozen=True)
    class Config(weak.Config):
        generations: int = 1  # the classical form has no other

        def problems(self):
            found = super().problems()
            if self.generations > 1:
                found.append(f"generations is {self.generations}, expected 1; for more: --method gws_self")
            return found

    def teachers(self, role, pool, made):
        return [one for one in pool if one.generation == 0]
