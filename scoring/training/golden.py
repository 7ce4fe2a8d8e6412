"""Sentences that every scorer carries together with the logits it must give for them.

Written for this purpose, in several languages, short and long; no student's answer is among them. Their
lengths matter more than their meaning: together they fill a padded batch and reach the cut at `max_tokens`.
"""

from __future__ import annotations

GOLDEN_TEXTS = (
    "7",
    "Water.",
    "because it is lighter",
    "The lamp stays dark since the circuit is open.",
    "Das Eis schwimmt, weil seine Dichte kleiner ist als die des Wassers.",
    "Les plantes ont besoin de lumière pour grandir.",
    "El hielo flota porque pesa menos que el agua que desplaza.",
    "Лёд легче воды и поэтому не тонет.",
    "冰比水轻,所以浮在水面上。",
    "H2O turns to vapour at 100 °C; at 0 °C it freezes.",
    "she didnt no that the key was in the draw so she lookt under the matt",
    "First the seed swells, then a root breaks through its coat, and after some days two small leaves open.",
    " ".join(["The measurement was repeated under the same conditions and gave the same result."] * 20),
)
