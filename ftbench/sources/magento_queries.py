"""Shopping queries for the Luma store, from attribute combinations and from reviews. Must not know files.

Relevance of attribute queries is exact: it is read from the store's own attributes. A combination is left out where an
item's relevance cannot be told because the export leaves the deciding attribute empty.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

from ftbench.items import Interaction, Item, Judgement, Queries, Query, normalize_query, split_of, unit_hash
from ftbench.sources.magento_items import words
from ftbench.sources.rows import query_id

ASKED = ("gender", "color", "material", "pattern", "style", "climate", "activity")  # beside the kind
VISIBLE_STYLES = {  # a photograph does not show "soft shell" or "base layer"
    "¼ zip", "full zip", "hooded", "pullover", "capri", "leggings", "parachute", "snug", "backpack", "duffel",
    "messenger", "tote",
}  # fmt: skip
RELEVANT, NEAR = 3.0, 1.0  # gains: all attributes; all but one, in queries of three or more (DESIGN.md, "Relevance")
MOST_RELEVANT = 15  # a query that more items satisfy browses a category
PER_TYPE = 24  # queries per combination of attribute names, its kinds of product in turn, so that none floods the set
PER_ANSWER = 2  # queries with the very same set of relevant items
LEAST_RATING = 3  # of 5 stars: whoever gives less complains of the product rather than describes a need it meets
SHORT_TITLE, FEWEST_WORDS, MOST_WORDS = 6, 5, 30  # words: "Love it!" names no need, and a whole review is no query
MISNAMED = re.compile(
    r"(MSH|WSH)\d+|WS12"
)  # reviews of shoes and of a polo, under numbers that shorts and a tee now have
CUT_TITLE = 35  # characters: the store cut titles at about 40

# The store's value -> what a shopper types. Values missing here are never asked for: "solid" (126 of 147 garments),
# styles that repeat the kind ("tee"), vague ones ("basic", "workout pants" on shorts).
KINDS = {
    "jacket": "jacket", "hoodie": "hoodie or sweatshirt", "tee": "tee", "tank": "tank top", "bra": "sports bra",
    "pants": "pants", "shorts": "shorts", "bag": "bag", "watch": "watch", "equipment": "workout equipment",
}  # fmt: skip
STYLES = {  # by kind; the phrase replaces the kind's own
    "jacket": {
        "lightweight": "lightweight jacket", "hooded": "hooded jacket", "rain coat": "rain jacket",
        "hard shell": "hard shell jacket", "soft shell": "soft shell jacket", "windbreaker": "windbreaker",
        "¼ zip": "quarter-zip jacket", "full zip": "full-zip jacket", "insulated": "insulated jacket",
        "reversible": "reversible jacket", "heavy duty": "heavy-duty jacket", "pullover": "pullover jacket",
    },
    "hoodie": {"pullover": "pullover hoodie or sweatshirt", "full zip": "full-zip hoodie or sweatshirt"},
    "pants": {
        "sweatpants": "sweatpants", "track pants": "track pants", "leggings": "leggings", "capri": "capri pants",
        "compression": "compression pants", "base layer": "base layer pants", "parachute": "parachute pants",
    },
    "shorts": {"compression": "compression shorts", "snug": "snug shorts", "base layer": "base layer shorts"},
    "bag": {
        "backpack": "backpack", "duffel": "duffel bag", "messenger": "messenger bag", "tote": "tote bag",
        "laptop": "laptop bag", "luggage": "luggage bag",
    },
}  # fmt: skip
PHRASES = {
    "gender": {"men": "men", "women": "women"},
    "color": {c: c for c in ("black", "blue", "brown", "gray", "green", "orange", "purple", "red", "white", "yellow")},
    "material": {"cocona performance fabric": "cocona"} | {m: m for m in (
        "burlap", "canvas", "cooltech", "cotton", "evercool", "fleece", "foam", "heattec", "hemp", "jersey", "leather",
        "lumatech", "lycra", "mesh", "metal", "microfiber", "nylon", "organic cotton", "plastic", "polyester", "rayon",
        "rubber", "silicone", "spandex", "stainless steel", "suede", "wool",
    )},
    "pattern": {
        "color-blocked": "color-block", "striped": "striped", "checked": "checked", "graphic print": "graphic print",
        "solid-highlight": "contrast-trim",
    },
    "climate": {
        "all-weather": "all-weather", "cold": "for cold weather", "cool": "for cool weather", "hot": "for hot weather",
        "indoor": "for indoor workouts", "mild": "for mild weather", "rainy": "for rainy days", "spring": "for spring",
        "warm": "for warm weather", "windy": "for windy days", "wintry": "for winter",
    },
    "activity": {
        "gym": "for the gym", "hiking": "for hiking", "outdoor": "for the outdoors", "overnight": "for overnight trips",
        "school": "for school", "sports": "for sports", "trail": "for the trail", "travel": "for travel",
        "urban": "for city days", "yoga": "for yoga",
    },
}  # fmt: skip
FORMS = {  # other words by which a text says a value, in the form that `words` gives
    "gray": ("grey",), "men": ("men s", "mens", "guys"), "women": ("women s", "womens", "woman", "ladies"),
    "cocona performance fabric": ("cocona",),
    "color-blocked": ("color block", "colorblock", "color blocking", "two tone"),
    "striped": ("stripe", "stripes"), "checked": ("check", "checkered", "plaid"),
    "solid-highlight": ("highlight", "highlights", "contrast", "contrasting", "trim"),
    "graphic print": ("graphic", "print", "printed"), "rain coat": ("rain", "raincoat", "rainproof"),
    "¼ zip": ("quarter zip", "1/4 zip"), "full zip": ("full length zip", "full zipper"), "hooded": ("hood", "hoodie"),
    "insulated": ("insulation", "insulating"), "windbreaker": ("windproof",), "hard shell": ("hardshell",),
    "soft shell": ("softshell",), "leggings": ("legging",), "capri": ("capris",), "duffel": ("duffle",),
    "rainy": ("rain",), "windy": ("wind",), "wintry": ("winter",), "outdoor": ("outdoors",), "indoor": ("indoors",),
    "track pants": ("track pant",), "sweatpants": ("sweatpant",), "parachute": ("parachute pant", "parachute pants"),
}  # fmt: skip
TOPICS = (  # how words begin that tell a searcher something: products, uses, weather, features
    "jacket hood sweat pullover shirt tee tank top bra pant legging capri shorts bag backpack duff tote watch band "
    "ball rope bottle strap grip layer fleece gym yoga run jog hik camp bik rid ski walk work exercis train rac travel "
    "trip school class game sport tennis football softball crossfit pajama warm cold cool rain snow wind winter summer "
    "dry wet hot waterproof pocket zip sleeve waist button fabric material color light soft stretch neck seam lining "
    "wrist mesh snug chaf"
).split()  # fmt: skip


@dataclass(frozen=True, slots=True)
class Review:
    """A customer's words about a product: sku, stars (1 to 5), title and text."""

    sku: str
    rating: int
    title: str
    text: str


def phrase(asked: Mapping[str, str]) -> str:
    """What a shopper types for attribute values, kind included; one wording per combination.

    >>> phrase({"kind": "tee", "color": "blue", "material": "cotton", "climate": "warm"})
    'blue cotton tee for warm weather'
    """
    said = {name: PHRASES[name][value] for name, value in asked.items() if name not in ("kind", "style")}
    noun = STYLES[asked["kind"]][asked["style"]] if "style" in asked else KINDS[asked["kind"]]
    front = [said[name] for name in ("color", "pattern", "material") if name in said]
    tail = [said[name] for name in ("climate", "activity") if said.get(name, "").startswith("for ")]
    if said.get("climate") == "all-weather":
        front.insert(0, "all-weather")
    if "gender" in said:  # both orders are typed; the hash of the combination decides
        if tail or unit_hash("wording", repr(sorted(asked.items()))) < 0.5:
            front.insert(0, f"{said['gender']}'s")
        else:
            tail.append(f"for {said['gender']}")
    return " ".join((*front, noun, *tail))


class Relevance:
    """Which items have which attribute values, as bit masks over the items (bit i for items[i])."""

    def __init__(self, items: Sequence[Item]):
        self.items = items
        self.have: dict[tuple[str, str], int] = defaultdict(int)
        self.stated: dict[str, int] = defaultdict(int)
        for bit, item in enumerate(items):
            for name, values in item.attributes.items():
                self.stated[name] |= 1 << bit
                for value in values.split("|"):
                    self.have[name, value] |= 1 << bit

    def full(self, asked: Mapping[str, str]) -> int:
        """Mask of the items with all asked values."""
        mask = (1 << len(self.items)) - 1
        for term in asked.items():
            mask &= self.have[term]
        return mask

    def exact(self, asked: Mapping[str, str]) -> bool:
        """False where some item might be relevant but leaves an asked attribute empty."""
        possible = (1 << len(self.items)) - 1
        for name, value in asked.items():
            possible &= self.have[name, value] | ~self.stated[name]
        return possible == self.full(asked)

    def narrows(self, asked: Mapping[str, str]) -> bool:
        """Whether every attribute beside the kind leaves some item out that the others let in."""
        full = self.full(asked)
        return all(self.full({k: v for k, v in asked.items() if k != name}) != full for name in asked if name != "kind")

    def of(self, mask: int) -> list[Item]:
        """The items of a mask."""
        return [item for bit, item in enumerate(self.items) if mask >> bit & 1]

    def gains(self, asked: Mapping[str, str]) -> dict[str, float]:
        """Item id -> gain: RELEVANT with all asked values; NEAR with all but one where three or more are asked."""
        full = self.full(asked)
        near = 0
        if len(asked) >= 3:
            for name in asked:
                near |= self.full({k: v for k, v in asked.items() if k != name})
        found = {item.item_id: RELEVANT for item in self.of(full)}
        return found | {item.item_id: NEAR for item in self.of(near & ~full)}


def attribute_combinations(relevance: Relevance) -> Iterator[dict[str, str]]:
    """The combinations to ask for, in a stable order: 1 to 3 attributes beside the kind, capped by the constants."""
    answers: Counter = Counter()
    for size in (1, 2, 3):
        for names in combinations(ASKED, size):
            candidates = []  # (turn, order by hash, text, combination)
            for kind in KINDS:
                values = [list(STYLES.get(kind, ()) if name == "style" else PHRASES[name]) for name in names]
                every = [{"kind": kind} | dict(zip(names, chosen, strict=True)) for chosen in product(*values)]
                fitting = [asked for asked in every if 0 < relevance.full(asked).bit_count() <= MOST_RELEVANT]
                order = sorted(
                    ((unit_hash("combination", phrase(a)), phrase(a), a) for a in fitting), key=lambda e: e[:2]
                )
                candidates += [(turn, *entry) for turn, entry in enumerate(order)]
            taken = 0
            for *_, asked in sorted(candidates, key=lambda entry: entry[:3]):
                full = relevance.full(asked)
                if taken == PER_TYPE:
                    break
                if answers[full] < PER_ANSWER and relevance.exact(asked) and relevance.narrows(asked):
                    taken += 1
                    answers[full] += 1
                    yield asked


def says(item: Item, value: str) -> bool:
    """Whether a text view of the item has the words of an attribute value."""
    forms = [words(form) for form in (value, value + "s", *FORMS.get(value, ()))]
    return any(form in words(view.content) for view in item.views if view.kind == "text" for form in forms)


def attribute_slices(asked: Mapping[str, str], relevant: Sequence[Item]) -> tuple[str, ...]:
    """`attributes`, and `in_text` or `photo_only` where one of them holds.

    in_text: the texts of one fully relevant item have the words of every asked value (its kind always stands in its
    tags). photo_only: some value that a photograph shows (a colour, a pattern, a visible style) is in no text of any
    fully relevant item.
    """
    terms = [(name, value) for name, value in asked.items() if name != "kind"]
    if any(all(says(item, value) for _, value in terms) for item in relevant):
        return ("attributes", "in_text")
    visual = [value for name, value in terms if name in ("color", "pattern") or value in VISIBLE_STYLES]
    unseen = any(not any(says(item, value) for item in relevant) for value in visual)
    return ("attributes", "photo_only") if unseen else ("attributes",)


def review_text(review: Review) -> str:
    """The query a review makes: its title, with its first sentence where short, replaced by it where cut off."""
    title, text = (re.sub(r"\s+", " ", part).strip() for part in (review.title, review.text))
    first = re.match(r".*?[.!?]+(?=\s|$)|.*", text)[0]
    repeated = words(text).startswith(words(title).rstrip())
    short = len(title.split()) < SHORT_TITLE
    if repeated and (short or len(title) >= CUT_TITLE):
        title = first
    if short and not words(first).startswith(words(title).rstrip()):
        title = f"{title} {first}" if title[-1:] in ".!?" else f"{title}. {first}"
    return " ".join(title.split()[:MOST_WORDS])


class _Evidence:
    """Queries by normalised text, with their judgements or interactions, and the counts of what was left out."""

    def __init__(self, items: Sequence[Item], shares: tuple[float, float, float], dropped: Counter):
        self.split_of_item = {item.item_id: item.split for item in items}
        self.shares, self.dropped = shares, dropped
        self.queries: dict[str, Query] = {}
        self.gains: dict[str, dict[str, float]] = {}

    def add(
        self, prefix: str, text: str, gains: Mapping[str, float], slices: tuple[str, ...], asked: Mapping
    ) -> str | None:
        """Keep one query; the reason where it cannot be kept, else None."""
        key = normalize_query(text)
        split = split_of("query", key, self.shares)
        if split == "train":
            gains = {i: g for i, g in gains.items() if g == RELEVANT and self.split_of_item[i] == "train"}
            if not gains:
                return "train query without a relevant train item"
        query = Query(query_id(prefix, text), text, split, slices, dict(asked))
        if self.queries.setdefault(key, query).query_id != query.query_id:
            return "query text of another slice"
        self.gains.setdefault(key, {}).update(gains)
        return None

    def result(self) -> Queries:
        pairs = [
            (self.queries[key], item_id, gain) for key, gains in self.gains.items() for item_id, gain in gains.items()
        ]
        return Queries(
            queries=tuple(self.queries.values()),
            judgements=tuple(Judgement(q.query_id, i, gain) for q, i, gain in pairs if q.split != "train"),
            interactions=tuple(Interaction(q.query_id, i) for q, i, _ in pairs if q.split == "train"),
        )


def build_queries(
    items: Sequence[Item],
    reviews: Sequence[Review],
    shares: tuple[float, float, float],
    dropped: Counter,
) -> tuple[Queries, int]:
    """All queries with their evidence, and how many reviews were kept. `dropped` gains what was left out, by reason.

    Judged on all items of the store; train queries keep interactions with relevant train items alone.
    """
    evidence = _Evidence(items, shares, dropped)
    relevance = Relevance(items)
    for asked in attribute_combinations(relevance):
        relevant = relevance.of(relevance.full(asked))
        slices = attribute_slices(asked, relevant)
        if reason := evidence.add("attributes", phrase(asked), relevance.gains(asked), slices, asked):
            dropped[f"attribute combination: {reason}"] += 1
    kept = 0
    for review in reviews:
        text = review_text(review)
        if review.sku not in evidence.split_of_item:
            reason = "names an absent product"
        elif review.rating < LEAST_RATING:
            reason = f"fewer than {LEAST_RATING} stars"
        elif MISNAMED.fullmatch(review.sku):
            reason = "of another product that once had this number"
        elif len(text.split()) < FEWEST_WORDS:
            reason = f"fewer than {FEWEST_WORDS} words"
        elif not any(word.startswith(tuple(TOPICS)) for word in words(text).split()):
            reason = "names no product, use, weather or feature"
        else:
            reason = evidence.add("review", text, {review.sku: RELEVANT}, ("reviews",), {})
        if reason:
            dropped[f"review: {reason}"] += 1
        else:
            kept += 1
    return evidence.result(), kept
