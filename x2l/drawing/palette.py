"""The colours of every drawing."""

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#882255")
"""Told apart by the colour-blind. Source: Okabe and Ito 2008; its yellow, faint on white, and
its black, the colour of intervals, give way to a wine red of Paul Tol's."""
GREY = "#767676"


def colour(number: int) -> str:
    """Of the row with this number, in every figure and on every page."""
    return COLOURS[number % len(COLOURS)]
