"""Sentences that never change, for timing engines and for finding how far activations swing.

Written for this purpose, in several languages; no student's answer is among them.
"""

from __future__ import annotations

#: Changing one of these changes every int8 score: `findings.SCHEME` must change with them.
SAMPLE_TEXTS = (
    "42",
    "I don't know.",
    "becuase the sun makes it evaporate",
    "The current stops since there is a gap between the battery and the bulb.",
    "He is bluffing: he wants them to believe the opposite of what he says.",
    "Plants take in carbon dioxide and water, and with light they make sugar and oxygen.",
    "Die Temperatur steigt, weil sich die Teilchen schneller bewegen.",
    "Der Zug war zu spät, deshalb haben wir den Anschluss verpasst.",
    "La masse ne change pas quand la glace fond.",
    "El agua se expande al congelarse y por eso rompe la botella.",
    "L'ombra è più lunga perché il sole è più basso.",
    "Сила тяжести на Луне меньше, чем на Земле.",
    "因为空气里的水蒸气遇冷变成了小水滴。",
    "F = m * a, so 12 N / 3 kg = 4 m/s^2",
    "no no no!!! it is the SAME, look at table 2 (row 3) and you see it",
    "First we weighed the empty cup, then we poured water into it and weighed it again: so we got the mass.",
)
