"""The one look of every picture: colours, type sizes, distances. Lengths are pixels, colours RGB 0–255."""

from __future__ import annotations

Colour = tuple[int, int, int]

PAPER: Colour = (255, 255, 255)
INK: Colour = (27, 31, 38)
MUTED: Colour = (98, 106, 118)
HAIRLINE: Colour = (214, 218, 224)
TRACK: Colour = (238, 240, 243)
BAR: Colour = (158, 167, 180)
FOR: Colour = (190, 40, 45)  # the target, and evidence for it
AGAINST: Colour = (38, 98, 176)  # the class that is subtracted, and evidence against the target

TITLE = 19
HEAD = 14
TEXT = 13
SMALL = 12

MARGIN = 28
GAP = 20
TIGHT = 6

BOX = 320  # longest side of a picture where there are few
BOX_MANY = 224  # and where there are many
SHEET_BOX = 184  # and on a contact sheet
PREDICTIONS = 270  # width of the list of predictions
TINY = 64  # images up to this side are enlarged by whole factors, every pixel kept visible

ALPHA = 0.8  # opacity of the strongest value on a photo


def number(value: float) -> str:
    """``value`` with three significant digits: ``0``, ``0.0123``, ``1230``, ``−4.56``, ``1.2e−7``."""
    if value == 0:
        return "0"
    rounded = float(f"{value:.2e}")
    digits = f"{rounded:.2e}"
    exponent = int(digits.partition("e")[2])
    if -4 <= exponent < 6:
        text = f"{rounded:.{max(0, 2 - exponent)}f}"
    else:
        mantissa = digits.partition("e")[0].rstrip("0").rstrip(".")
        text = f"{mantissa}e{exponent}"
    return text.replace("-", "−")


def probability(value: float) -> str:
    """``value`` in 0..1 with three decimals; ``<0.001`` and ``>0.999`` where rounding would say 0 or 1."""
    if 0 < value < 0.0005:
        return "<0.001"
    return ">0.999" if 0.9995 <= value < 1 else f"{value:.3f}"
