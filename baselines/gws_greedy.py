"""Greedy multi-labelling, generalized weak supervision (Lien, Zamani and Croft 2024): the labellers that help together.

Idea: every generation's rankers and the weak labeller form a pool; their labels are averaged, adding greedily the
labeller that improves a criterion most, until none does.
Differs from the paper: built from its abstract. Unless judgements of the validation split are given (--track
weak-validated) the criterion knows none: agreement with a judge, a labeller from whose lists nobody learns, on queries
that no ranker has seen, each query by its predicted performance.
"""

from ftbench import weak


class Method(weak.WeakSupervision):
    roles = ("ranker", "second")
    keeps = False  # the weak labels are in the pool, and are learned from where they are chosen

    chosen = None, ()  # the pool that was last chosen from, and what was chosen

    def teachers(self, role, pool, made):
        if self.chosen[0] is not pool:
            self.chosen = pool, choice(pool, made.agreement)
        return self.chosen[1]


def choice(pool, worth):
    """What a greedy choice takes of a pool, in order; worth: of some of it, a number that each one taken must raise."""
    chosen, best, left = [], -1.0, list(pool)
    while left:
        values = [worth([*chosen, one]) for one in left]
        place = max(range(len(left)), key=values.__getitem__)
        if values[place] <= best:
            break
        best = values[place]
        chosen.append(left.pop(place))
    return chosen
