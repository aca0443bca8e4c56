"""Reads the data out of matplotlib figures, in the form of the SDKs' charts.

`of_figure` looks only at what matplotlib drew, so it works for whatever draws
through matplotlib: pyplot, pandas, seaborn.
"""

import functools
import inspect

from . import axes as _axes
from .values import number, plain

# So many points, over all series of a figure, are kept as they are; of more,
# every n-th is kept.
MAX_POINTS = 100_000


def of_figure(figure):
    """The chart in a figure, or None where nothing was drawn. Never raises."""
    try:
        return _figure(figure)
    except Exception:
        return None


def _figure(figure):
    heading = figure.get_suptitle() if hasattr(figure, "get_suptitle") else figure._suptitle
    heading = getattr(heading, "get_text", lambda: heading)() or ""
    drawn = [a for a in figure.axes if a.get_visible() and a.has_data() and not _is_colour_bar(a)]
    charts = [_chart(a) for a in drawn]
    if not charts:
        return None
    if len(charts) > 1:
        return {"type": "superchart", "title": heading, "elements": _thin(charts)}
    charts[0]["title"] = charts[0]["title"] or heading
    return _thin(charts)[0]


def _is_colour_bar(axes):
    return axes.get_label() == "<colorbar>" or hasattr(axes, "_colorbar")


def _chart(axes):
    """The chart in one pair of axes; what it is depends on what was drawn."""
    title = axes.get_title() or axes.get_title("left") or axes.get_title("right")
    unknown = {"type": "unknown", "title": title, "elements": []}
    if axes.name != "rectilinear":
        return unknown
    try:
        for read in (_boxes, _pie, _bars, _points):
            chart = read(axes)
            if chart is not None:
                kind, elements, more = chart
                return {"type": kind, "title": title, **more, "elements": elements}
    except Exception:
        pass
    return unknown


def _points(axes):
    """Lines and scattered points: their type is that of what was drawn first."""
    series = [s for s in map(functools.partial(_axes.series, axes), axes.get_children()) if s]
    if not series:
        return None
    elements = []
    for kind, found in series:
        for label, points in found:
            elements.append({"label": label or f"Series {len(elements) + 1}", "points": points})
    return series[0][0], elements, {**_axes.labels(axes), **_axes.scales(axes)}


def _pie(axes):
    from matplotlib.patches import Wedge

    wedges = [p for p in axes.patches if isinstance(p, Wedge)]
    if not wedges:
        return None
    legend = axes.get_legend()
    names = [t.get_text() for t in legend.get_texts()] if legend else []
    elements = []
    for i, w in enumerate(wedges):
        label = _axes.public(w.get_label()) or (names[i] if i < len(names) else "")
        elements.append({"label": label, "angle": number(abs(w.theta2 - w.theta1)), "radius": number(w.r)})
    return "pie", elements, {}


def _bars(axes):
    from matplotlib.container import BarContainer

    elements = []
    for bars in axes.containers:
        if not isinstance(bars, BarContainer) or not bars.patches:
            continue
        horizontal = getattr(bars, "orientation", None) == "horizontal"
        axis = axes.yaxis if horizontal else axes.xaxis
        names = _axes.bar_names(axis, bars.patches, horizontal)
        for bar, name in zip(bars.patches, names):
            value = plain(bar.get_width() if horizontal else bar.get_height())
            if value is None:
                continue
            group = _axes.public(bars.get_label()) or _axes.public(bar.get_label()) or _axes.legend_name(axes, bar.get_facecolor())
            elements.append({"label": name, "group": group, "value": value})
    return ("bar", elements, _axes.labels(axes)) if elements else None


def _boxes(axes):
    drawn = set(axes.lines)
    elements = []
    for box in getattr(axes, "_atoll_boxes", ()):
        if box["artist"] not in drawn:
            continue  # removed, or the axes were cleared
        stats = box["stats"]
        axis = axes.xaxis if box["vertical"] else axes.yaxis
        elements.append({
            "label": _axes.name_at(axis, box["position"]) or str(stats.get("label", "")),
            "min": number(stats["whislo"]),
            "first_quartile": number(stats["q1"]),
            "median": number(stats["med"]),
            "third_quartile": number(stats["q3"]),
            "max": number(stats["whishi"]),
            "outliers": [v for v in map(number, stats.get("fliers", ())) if v is not None],
        })
    return ("box_and_whisker", elements, _axes.labels(axes)) if elements else None


def record_boxes(axes_class):
    """Makes axes remember the statistics behind their boxes: what is drawn of
    them are lines like any other."""
    draw = axes_class.bxp
    signature = inspect.signature(draw)

    @functools.wraps(draw)
    def bxp(self, *args, **kwargs):
        drawn = draw(self, *args, **kwargs)
        try:
            _record(self, drawn, signature.bind(self, *args, **kwargs).arguments)
        except Exception:
            pass
        return drawn

    axes_class.bxp = bxp


def _record(axes, drawn, arguments):
    stats = arguments["bxpstats"]
    positions = arguments.get("positions")
    if positions is None:
        positions = range(1, len(stats) + 1)
    vertical = arguments.get("orientation", "vertical") == "vertical"
    if arguments.get("vert") is not None:
        vertical = bool(arguments["vert"])
    boxes = axes.__dict__.setdefault("_atoll_boxes", [])
    for artist, stat, position in zip(drawn["medians"], stats, positions):
        boxes.append({"artist": artist, "stats": stat, "position": float(position), "vertical": vertical})


def _thin(charts):
    series = [e for c in charts if c["type"] in ("line", "scatter") for e in c["elements"]]
    step = -(-sum(len(s["points"]) for s in series) // MAX_POINTS)
    if step > 1:
        for s in series:
            s["points"] = s["points"][::step]
    return charts
