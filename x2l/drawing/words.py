"""Figures as people read them."""


def size(num_bytes: int) -> str:
    """1,234 B, 12.3 kB, 4.5 MB, ..."""
    number = float(num_bytes)
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.4g} {unit}"
        number /= 1000
    return f"{number:,.3g} GB"


def minutes(seconds: int | float) -> str:
    """0:07, 3:35, 1:02:09: a time in a video, whole seconds."""
    whole = int(seconds)
    hours, rest = divmod(whole, 3600)
    start = f"{hours}:{rest // 60:02}" if hours else f"{rest // 60}"
    return f"{start}:{rest % 60:02}"


def span(start_s: int | float, end_s: int | float) -> str:
    """0:07–0:12: from when to when."""
    return f"{minutes(start_s)}–{minutes(end_s)}"
