"""Figures in words, as people are told them."""

from siftline import schemas

THIN_SPACE = "\u202f"


def count(number: int) -> str:
    """12345 → 12 345."""
    return f"{number:,}".replace(",", THIN_SPACE)


def percent(share: float) -> str:
    """.083 → 8.3 %; whole percents in the middle. What is not all is never rounded to 100, nor some to 0."""
    value = 100 * share
    if 0 < value < 0.05:
        return "< 0.1 %"
    if 99.95 <= value < 100:
        return "> 99.9 %"
    whole = value in (0, 100) or 9.95 <= value < 99.5
    return f"{value:.0f} %" if whole else f"{value:.1f} %"


def plural(number: int, one: str, many: str | None = None) -> str:
    return f"{count(number)} {one if number == 1 else many or one + 's'}"


def contamination(found: schemas.Contamination) -> str:
    """One sentence on how many images are bad, and how sure that is."""
    low, high = found.interval
    if found.evidence == "none":
        return (
            "No evidence of contamination. Defects that look like the rest leave no trace: by the 80 % "
            f"interval up to {percent(high)} of the images could be bad all the same."
        )
    return (
        f"About {percent(found.estimate)} of the images look anomalous "
        f"(80 % interval {percent(low)} to {percent(high)}). The evidence is {found.evidence}."
    )


def duration(seconds: float) -> str:
    """75 → 1 min 15 s."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
