"""Which language a text is in, by its script and its commonest function words. Must not know catalogues.

Coarse on purpose: it tells a reader of a datasheet that a catalogue is a third German, not what a sentence is. A text
in Latin letters that holds too few function words, as many titles do, is "undetermined".
"""

import re
from collections import Counter

UNDETERMINED = "undetermined"
HOW = (
    "by script and, for Latin letters, by function words of ten languages, from all texts of an item together; "
    "fewer than two such words, or as many of another language, count as undetermined"
)
_MOST_CHARACTERS = 2_000  # of a text are read: enough for any listing
_LEAST_WORDS = 2  # function words: one alone ("die cast", "para cord") is often a name

_SCRIPTS = (  # (language or script, its letters), tried in this order: kana before the characters they stand among
    ("Japanese", re.compile(r"[\u3040-\u30ff]")),
    ("Korean", re.compile(r"[\uac00-\ud7af]")),
    ("Chinese", re.compile(r"[\u4e00-\u9fff]")),
    ("Cyrillic", re.compile(r"[\u0400-\u04ff]")),
    ("Greek", re.compile(r"[\u0370-\u03ff]")),
    ("Arabic", re.compile(r"[\u0600-\u06ff]")),
    ("Hebrew", re.compile(r"[\u0590-\u05ff]")),
    ("Thai", re.compile(r"[\u0e00-\u0e7f]")),
    ("Devanagari", re.compile(r"[\u0900-\u097f]")),
)
_SCRIPT_SHARE = 0.25  # of letters: product names in Latin letters stand in texts of every script
# The commonest articles, prepositions, pronouns and conjunctions of each (our choice; the tests try sentences).
_WORDS = {
    "English": "the and of for with is this that to your in are from it on you be our or as an by has will at",
    "German": "der die das und mit für ist von auf aus ein eine einen den dem zu im sich nicht auch bei oder sie zum",
    "French": "le la les des et une est avec pour dans du en sur par pas ce cette vous votre au aux ou son qui que",
    "Spanish": "el los las del y una es con para por en su de la que se un al como más esta este sin lo muy",
    "Italian": "il gli di e una è con per che della delle dei nel da un la non si al anche questo sono alla dal più",
    "Portuguese": "o os as do da dos das e uma é com para em no na por um que não se ao seu sua mais você",
    "Dutch": "de het een en van voor met is op te zijn niet dat door uit deze bij ook aan wordt om je naar",
    "Swedish": "och att det som en för på är av med till den ett har inte om kan från eller din i du",
    "Polish": "i w z na do się jest nie to że dla oraz od po jak przez ze są lub który jego te",
    "Turkish": "ve bir bu için ile çok da de olarak daha gibi olan en her ne kadar sonra ya mi ürün",
}
_LANGUAGES: dict[str, list[str]] = {}
for _language, _line in _WORDS.items():
    for _word in _line.split():
        _LANGUAGES.setdefault(_word, []).append(_language)
_TOKEN = re.compile(r"[^\W\d_]+")


def language(text: str) -> str:
    """The language of a text, or its script, or "undetermined"."""
    text = text[:_MOST_CHARACTERS]
    letters = len(_TOKEN.findall(text)) and sum(map(str.isalpha, text))
    if not letters:
        return UNDETERMINED
    for name, pattern in _SCRIPTS:
        if len(pattern.findall(text)) >= _SCRIPT_SHARE * letters:
            return name
    hits = Counter(name for word in _TOKEN.findall(text.lower()) for name in _LANGUAGES.get(word, ()))
    ranked = hits.most_common(2)
    if not ranked or ranked[0][1] < _LEAST_WORDS or (len(ranked) > 1 and ranked[0][1] == ranked[1][1]):
        return UNDETERMINED
    return ranked[0][0]
