"""Reads pandas' data frames: {column: [values]}, as the SDKs' `data` holds it."""

from .values import plain

# Larger frames are shown as text and HTML only: a part would pass for the whole.
MAX_CELLS = 200_000
MAX_TEXT = 16 << 20  # characters


def of_frame(frame):
    """The columns of a data frame, or None where it is too large. Never raises."""
    try:
        return None if frame.size > MAX_CELLS else _columns(frame)
    except Exception:
        return None


def _columns(frame):
    data, text = {}, 0
    for i, column in enumerate(frame.columns):
        name = ", ".join(map(str, column)) if isinstance(column, tuple) else str(plain(column))
        values = [plain(v) for v in frame.iloc[:, i].tolist()]
        text += sum(len(v) for v in values if isinstance(v, str))
        if text > MAX_TEXT:
            return None
        data[_unused(name, data)] = values
    return data


def _unused(name, taken):
    """The name, or name.1, name.2 … where columns have the same one."""
    if name not in taken:
        return name
    n = 1
    while f"{name}.{n}" in taken:
        n += 1
    return f"{name}.{n}"
