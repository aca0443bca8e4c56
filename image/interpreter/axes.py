"""Reads matplotlib's axes: labels, scales, names of positions, series."""

import re

from .values import number, plain

_UNIT = re.compile(r"[(\[]([^()\[\]]+)[)\]]\s*$")

# Scales by matplotlib's names that the SDKs know.
_SCALES = {"linear", "log", "symlog", "logit", "function", "functionlog", "asinh"}


def labels(axes):
    """Labels as they stand, and the units that they end with: "Time (s)"."""
    found = {}
    for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        label = axis.get_label_text()
        unit = _UNIT.search(label)
        found[name + "_label"] = label
        found[name + "_unit"] = unit.group(1).strip() if unit else None
    return found


def scales(axes):
    """Scale, ticks in view and their texts, for both axes."""
    found = {}
    for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        slack = (high - low) * 1e-9
        texts = [t.get_text() for t in axis.get_ticklabels()]
        ticks = [(t, text) for t, text in zip(axis.get_ticklocs(), texts) if low - slack <= t <= high + slack]
        kind = _kind(axis)
        # A category is named by the text; its tick is where it stands.
        read = number if kind == "category" else reader(axis)
        found[name + "_ticks"] = [read(t) for t, _ in ticks]
        found[name + "_tick_labels"] = [text for _, text in ticks]
        scale = axis.get_scale()
        found[name + "_scale"] = {"date": "datetime", "period": "datetime", "category": "categorical"}.get(
            kind, scale if scale in _SCALES else "linear")
    return found


def _kind(axis):
    """What the numbers of an axis stand for."""
    get = getattr(axis, "get_converter", None)  # since matplotlib 3.10
    converter = get() if get else axis.converter
    if converter is None:
        return "number"
    name = type(converter).__name__
    if name == "StrCategoryConverter":
        return "category"
    if name == "PeriodConverter" and getattr(axis, "freq", None) is not None:
        return "period"
    return "date" if "Date" in name or "Period" in name else "number"


def reader(axis):
    """How to read a number of an axis: as a category, a date or itself."""
    kind = _kind(axis)
    if kind == "category":
        names = {float(at): name for name, at in axis.units._mapping.items()}
        return lambda n: names.get(float(n), number(n))
    if kind == "period":
        import pandas

        return lambda n: pandas.Period(ordinal=int(round(n)), freq=axis.freq).to_timestamp().isoformat()
    if kind == "date":
        return lambda n: _iso(n, axis.units)
    return number


def _iso(days, zone):
    from matplotlib.dates import num2date

    date = num2date(days, zone if hasattr(zone, "utcoffset") else None)
    return (date if hasattr(zone, "utcoffset") else date.replace(tzinfo=None)).isoformat()


def public(label):
    """A label that somebody gave; matplotlib's own begin with a line."""
    label = str(label or "")
    return "" if label.startswith("_") else label


def legend_name(axes, colour):
    """What a colour means by the legend, or ""."""
    from matplotlib.colors import same_color

    legend = axes.get_legend()
    if legend is None:
        return ""
    handles = getattr(legend, "legend_handles", None) or getattr(legend, "legendHandles", [])
    for handle, text in zip(handles, legend.get_texts()):
        for get in ("get_facecolor", "get_markerfacecolor", "get_color"):
            try:
                shown = getattr(handle, get)()
                shown = shown[0] if getattr(shown, "ndim", 1) == 2 else shown
                if same_color(tuple(shown)[:3] if not isinstance(shown, str) else shown, tuple(colour)[:3]):
                    return text.get_text()
            except (AttributeError, ValueError, IndexError, TypeError):
                continue
    return ""


def _named_ticks(axis):
    """Ticks with texts of somebody's own: (position, text)."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter

    formatter = axis.get_major_formatter()
    fixed = isinstance(axis.get_major_locator(), FixedLocator) and isinstance(formatter, (FixedFormatter, FuncFormatter))
    if not fixed and type(formatter).__name__ != "StrCategoryFormatter":
        return []
    texts = [t.get_text() for t in axis.get_ticklabels()]
    return [(at, text) for at, text in zip(axis.get_ticklocs(), texts) if text]


def name_at(axis, position):
    """The text of the tick nearest to a position, or "" where ticks are numbers."""
    ticks = _named_ticks(axis)
    return min(ticks, key=lambda tick: abs(tick[0] - position))[1] if ticks else ""


def bar_names(axis, bars, horizontal):
    """A name for each bar: its tick's text, its range in a histogram, or its place."""
    sides = [(b.get_y(), b.get_height()) if horizontal else (b.get_x(), b.get_width()) for b in bars]
    if _named_ticks(axis):
        return [name_at(axis, at + width / 2) for at, width in sides]
    kind = _kind(axis)
    if kind == "number" and _contiguous(sides):
        return [f"{at:.6g} - {at + width:.6g}" for at, width in sides]
    read = reader(axis)
    names = [read(at + width / 2) for at, width in sides]
    return [n if isinstance(n, str) else f"{n:.10g}" for n in names]


def _contiguous(sides):
    """Whether each bar begins where the one before ends, as in a histogram."""
    if len(sides) < 2 or any(width <= 0 for _, width in sides):
        return False
    return all(abs(a + w - b) <= 1e-6 * w for (a, w), (b, _) in zip(sides, sides[1:]))


def series(axes, artist):
    """("line" or "scatter", [(label, points)]) of an artist, or None."""
    from matplotlib.collections import PathCollection
    from matplotlib.lines import Line2D

    if not artist.get_visible():
        return None
    if isinstance(artist, Line2D):
        # Not in data coordinates: axhline, axvline.
        if artist.get_transform() != axes.transData or _is_help(axes, artist):
            return None
        points = _read(axes, artist.get_xdata(orig=False), artist.get_ydata(orig=False))
        marks = artist.get_linestyle() in ("None", "none", " ", "", None)
        return ("scatter" if marks else "line", [(public(artist.get_label()), points)]) if points else None
    if isinstance(artist, PathCollection):
        found = _scattered(axes, artist)
        return ("scatter", found) if found else None
    return None


def _is_help(axes, line):
    """Whether a line is the bar or cap of an error, or the base of stems."""
    for c in axes.containers:
        kind = type(c).__name__
        if kind == "ErrorbarContainer" and line in c.lines[1]:
            return True
        if kind == "StemContainer" and line is c.baseline:
            return True
    return False


def _scattered(axes, collection):
    """The points of a scatter plot, by what their colours mean in the legend."""
    offsets = collection.get_offsets()
    label = public(collection.get_label())
    colours = collection.get_facecolors()
    if label or len(colours) != len(offsets) or axes.get_legend() is None:
        points = _read(axes, offsets[:, 0], offsets[:, 1])
        return [(label, points)] if points else []
    names, groups = {}, {}
    for colour, offset in zip(colours, offsets):
        key = tuple(colour)
        if key not in names:
            names[key] = legend_name(axes, colour)
        groups.setdefault(names[key], []).append(offset)
    found = [(name, _read(axes, [o[0] for o in g], [o[1] for o in g])) for name, g in groups.items()]
    return [(name, points) for name, points in found if points]


def _read(axes, xs, ys):
    """Points without those that have no place."""
    from numpy import isfinite, ma

    x_of, y_of = reader(axes.xaxis), reader(axes.yaxis)
    xs, ys = (ma.filled(ma.asarray(v, dtype=float), float("nan")) for v in (xs, ys))
    return [[x_of(x), y_of(y)] for x, y in zip(xs, ys) if isfinite(x) and isfinite(y)]
