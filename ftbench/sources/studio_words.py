"""The language of studio: attribute values with sellers' and buyers' words, and the texts made of them.

Must not know pixels. All choices come from a `Dice`, whose numbers are SHA-256 bits of its name: no library generator.
"""

import hashlib
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """Counter-based choices: draw k of a name is the same on any machine, in any order of use."""

    def __init__(self, *name: object):
        digest = hashlib.sha256("|".join(map(str, name)).encode()).digest()
        self._state = int.from_bytes(digest[:8], "big")

    def below(self, n: int) -> int:
        """An integer in [0, n): the next 64 bits of splitmix64 (Steele et al. 2014), scaled."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & (2**64 - 1)
        z = self._state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
        return ((z ^ (z >> 31)) * n) >> 64

    def chance(self, percent: int) -> bool:
        return self.below(100) < percent

    def pick(self, choices: Sequence[T]) -> T:
        return choices[self.below(len(choices))]

    def shuffled(self, values: Sequence[T]) -> list[T]:
        """Fisher and Yates's shuffle."""
        out = list(values)
        for i in range(len(out) - 1, 0, -1):
            j = self.below(i + 1)
            out[i], out[j] = out[j], out[i]
        return out


# attribute -> value -> (sellers' words, buyers' words); about four values in ten share a word between the two
WORDS: dict[str, dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "kind": {
        "shirt": (("shirt", "tee"), ("shirt", "top")),
        "dress": (("dress", "gown"), ("frock", "sundress")),
        "trousers": (("trousers", "slacks"), ("pants", "trousers")),
        "bag": (("tote", "carryall"), ("bag", "shopper")),
        "mug": (("mug", "tumbler"), ("mug", "cup")),
        "hat": (("hat", "headwear"), ("cap", "hat")),
        "boot": (("boot", "footwear"), ("boot", "shoe")),
        "cushion": (("cushion", "bolster"), ("pillow", "throwpillow")),
        "lamp": (("lamp", "luminaire"), ("lamp", "light")),
        "umbrella": (("umbrella", "parasol"), ("brolly", "rainshade")),
    },
    "colour": {
        "red": (("red", "crimson"), ("red", "scarlet")),
        "orange": (("orange", "tangerine"), ("orange", "pumpkin")),
        "yellow": (("lemon", "mustard"), ("yellow", "sunny")),
        "green": (("green", "emerald"), ("green", "grassy")),
        "teal": (("teal", "petrol"), ("turquoise", "aqua")),
        "blue": (("blue", "cobalt"), ("blue", "royal")),
        "purple": (("violet", "plum"), ("purple", "lilac")),
        "pink": (("pink", "rose"), ("pink", "fuchsia")),
        "brown": (("mocha", "chestnut"), ("brown", "chocolate")),
        "grey": (("slate", "graphite"), ("grey", "ash")),
    },
    "pattern": {
        "plain": (("plain", "solid"), ("plain", "unpatterned")),
        "stripes": (("striped", "breton"), ("striped", "stripy")),
        "pinstripe": (("pinstripe", "ribbed"), ("lined", "barred")),
        "checks": (("checked", "gingham"), ("checked", "squares")),
        "dots": (("dotted", "pindot"), ("spotty", "spotted")),
        "diagonal": (("diagonal", "bias"), ("slanted", "slanting")),
    },
    "motif": {
        "star": (("star", "stella"), ("star", "starry")),
        "heart": (("heart", "amour"), ("heart", "love")),
        "moon": (("lunar", "luna"), ("moon", "crescent")),
        "cross": (("cross", "plus"), ("cross", "plussign")),
        "ring": (("halo", "orbit"), ("ring", "circle")),
        "bolt": (("bolt", "voltage"), ("lightning", "flash")),
        "tree": (("tree", "pine"), ("tree", "fir")),
        "arrow": (("arrow", "dart"), ("pointer", "chevron")),
        "fish": (("fish", "marlin"), ("fish", "fishy")),
        "crown": (("crown", "regal"), ("tiara", "king")),
    },
    "closure": {
        "zip": (("zip", "zippered"), ("zip", "zipper")),
        "buttons": (("buttoned", "studs"), ("buttons", "button")),
        "laces": (("laced", "corded"), ("laces", "strings")),
        "velcro": (("velcro", "hookloop"), ("velcro", "sticky")),
        "toggle": (("toggle", "duffel"), ("peg", "horn")),
        "buckle": (("buckle", "clasp"), ("buckle", "fastener")),
    },
    "accessory": {
        "ball": (("ball", "sphere"), ("ball", "football")),
        "book": (("book", "volume"), ("novel", "notebook")),
        "candle": (("candle", "taper"), ("candle", "tealight")),
        "glasses": (("spectacles", "eyewear"), ("glasses", "shades")),
        "key": (("key", "latchkey"), ("key", "keys")),
        "plant": (("plant", "foliage"), ("potplant", "greenery")),
        "bottle": (("bottle", "flask"), ("bottle", "canteen")),
        "gift": (("giftbox", "parcel"), ("present", "gift")),
    },
    "lining": {
        "floral": (("floral", "botanical"), ("floral", "flowery")),
        "tartan": (("tartan", "plaid"), ("tartan", "scottish")),
        "polka": (("polka", "bubbles"), ("polkadot", "polka")),
        "camo": (("camo", "military"), ("camouflage", "army")),
        "leopard": (("leopard", "feline"), ("leopard", "catprint")),
        "galaxy": (("cosmic", "nebula"), ("galaxy", "space")),
        "quilted": (("quilted", "padded"), ("quilted", "puffy")),
        "gold": (("gilded", "lame"), ("golden", "shiny")),
    },
    "occasion": {
        "wedding": (("wedding", "bridal"), ("wedding", "marriage")),
        "office": (("office", "business"), ("work", "job")),
        "hiking": (("hiking", "trekking"), ("hiking", "trails")),
        "beach": (("beach", "seaside"), ("beach", "holiday")),
        "party": (("party", "gala"), ("clubbing", "dancing")),
        "school": (("school", "campus"), ("school", "college")),
        "camping": (("camping", "bivouac"), ("tenting", "outdoors")),
        "picnic": (("picnic", "alfresco"), ("picnic", "park")),
    },
    "material": {
        "cotton": (("cotton", "jersey"), ("cotton", "soft")),
        "wool": (("wool", "merino"), ("woolly", "woollen")),
        "leather": (("leather", "nappa"), ("leather", "hide")),
        "linen": (("linen", "flax"), ("linen", "breezy")),
        "metal": (("metal", "steel"), ("metallic", "iron")),
        "bamboo": (("bamboo", "rattan"), ("bamboo", "cane")),
    },
}
PRIMARY = ("kind", "colour", "pattern")
HIDDEN_IMAGE = ("motif", "closure", "accessory", "lining")
HIDDEN_TEXT = ("occasion", "material")

# Never drawn in the foundation set, and never named there: about one in six values of each hidden attribute, one kind.
HELD_OUT = {"kind": ("umbrella",), "motif": ("fish", "crown"), "closure": ("toggle",), "accessory": ("gift",),
            "lining": ("leopard",)}  # fmt: skip

_BRANDS = ("acme", "bellwood", "corvo", "dunmore", "elmstead", "fjordline", "gantry", "hollis", "ivarra", "juno",
           "kestrel", "lomond", "marlow", "norrland", "ostara", "pemberley")  # fmt: skip
_PUFF = ("new", "classic", "premium", "sale", "original", "limited", "deluxe", "bestseller", "large", "small",
         "unisex", "modern", "everyday", "signature")  # fmt: skip
_SENTENCE = ("a", "the", "for", "with", "and", "in", "on", "our", "your", "this", "is", "made", "of", "back", "lining",
             "closeup", "inside", "next", "to", "perfect", "days", "fine", "by", "design", "ideal",
             "wear", "gift")  # fmt: skip
_ASK = ("need", "looking", "some", "nice", "good", "cheap", "any", "want")


def vocabulary() -> list[str]:
    """Every word that a text, a query or a caption may hold, sorted; the token ids of `tiny` follow this order."""
    words = {*_BRANDS, *_PUFF, *_SENTENCE, *_ASK}
    for values in WORDS.values():
        for sellers, buyers in values.values():
            words.update(sellers, buyers)
    return sorted(words)


def seller(dice: Dice, latent: dict[str, str], attribute: str) -> str:
    """A seller's word for the item's value of an attribute."""
    return dice.pick(WORDS[attribute][latent[attribute]][0])


def buyer(dice: Dice, attribute: str, value: str) -> str:
    """A buyer's word for a value: four times in five one that sellers use too, where there is one."""
    sellers, buyers = WORDS[attribute][value]
    shared = [word for word in buyers if word in sellers]
    return dice.pick(shared) if shared and dice.chance(80) else dice.pick(buyers)


def title(dice: Dice, latent: dict[str, str]) -> tuple[str, tuple[str, ...]]:
    """A seller's title and the attributes it names."""
    words, named = [], []
    if dice.chance(60):
        words.append(dice.pick(_BRANDS))
    if dice.chance(35):
        words.append(dice.pick(_PUFF))
    for attribute, percent in (("colour", 50), ("pattern", 35), ("kind", 95)):
        if dice.chance(percent):
            words.append(seller(dice, latent, attribute))
            named.append(attribute)
    while dice.chance(35) or not words:
        words.append(dice.pick(_PUFF))
        if len(words) >= 9:
            break
    return " ".join(words), tuple(named)


def description(dice: Dice, latent: dict[str, str]) -> tuple[str, tuple[str, ...]]:
    """A seller's description and the attributes it names; hidden visual attributes seldom."""
    words, named = dice.pick(("our", "this", "the")).split() + [dice.pick(_PUFF)], []
    clauses = (("occasion", 90, "perfect for"), ("material", 65, "made of"), ("motif", 6, "with"),
               ("closure", 6, "with"), ("accessory", 6, "next to"), ("lining", 6, "lining in"))  # fmt: skip
    if dice.chance(50):
        words.append(seller(dice, latent, "kind"))
        named.append("kind")
    for attribute, percent, lead in clauses:
        if dice.chance(percent) and len(words) < 16:
            words += [*lead.split(), seller(dice, latent, attribute)]
            named.append(attribute)
    if dice.chance(50) and len(words) < 18:
        words += ["by", dice.pick(_BRANDS)]
    return " ".join(words), tuple(named)


def tags(dice: Dice, latent: dict[str, str]) -> tuple[str, tuple[str, ...]]:
    """A seller's tags and the attributes they name."""
    words, named = [], []
    for attribute, percent in (("material", 70), ("kind", 60), ("colour", 30)):
        if dice.chance(percent):
            words.append(seller(dice, latent, attribute))
            named.append(attribute)
    words += [dice.pick(_PUFF) for _ in range(1 + dice.below(3))]
    return " ".join(dice.shuffled(words)), tuple(named)


def caption(dice: Dice, latent: dict[str, str], view: str) -> str:
    """What one drawing shows, in sellers' words."""
    say = {attribute: seller(dice, latent, attribute) for attribute in (*PRIMARY, *HIDDEN_IMAGE)}
    return {
        "main": "{colour} {pattern} {kind}",
        "back": "{colour} {kind} with {motif} on the back",
        "crop": "closeup of {motif} on the {colour} back",
        "detail": "closeup of {colour} {pattern} with {closure}",
        "context": "{colour} {kind} next to {accessory}",
        "inside": "inside of {colour} {kind} with {lining} lining",
    }[view].format(**say)


def query(dice: Dice, wanted: dict[str, str]) -> str:
    """A buyer's phrase for some attribute values."""
    say = {attribute: buyer(dice, attribute, value) for attribute, value in wanted.items()}
    head = [say[a] for a in ("colour", "pattern", "material") if a in say]
    words = ([dice.pick(_ASK)] if dice.chance(25) else []) + dice.shuffled(head)
    tail = []
    if "closure" in say:
        words, tail = (words + [say["closure"]], tail) if dice.chance(50) else (words, [["with", say["closure"]]])
    words += [say["kind"]] if "kind" in say else []
    if "motif" in say:
        tail.append(["with", say["motif"], "on", "back"] if dice.chance(50) else [say["motif"], "back"])
    if "accessory" in say:
        tail.append([dice.pick(("with", "and")), say["accessory"]])
    if "lining" in say:
        tail.append([say["lining"], "lining"] if dice.chance(50) else ["with", say["lining"], "inside"])
    if "occasion" in say:
        tail.append(["for", say["occasion"]])
    for part in dice.shuffled(tail):
        words += part
    return " ".join(words)
