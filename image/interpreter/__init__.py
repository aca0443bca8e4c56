"""What Atoll adds to the Python kernel of the code interpreter.

An extension of IPython: it gives figures a chart and data frames their data,
beside the pictures and tables that they have anyway.
"""

import importlib.abc
import importlib.util
import sys

CHART = "application/vnd.atoll.chart+json"
DATA = "application/vnd.atoll.data+json"


def load_ipython_extension(shell):
    from IPython.core.formatters import BaseFormatter

    class Structured(BaseFormatter):
        _return_type = dict

    for kind, method in ((CHART, "_repr_atoll_chart_"), (DATA, "_repr_atoll_data_")):
        formatter = Structured(parent=shell)
        formatter.format_type, formatter.print_method = kind, method
        shell.display_formatter.formatters[kind] = formatter
    # Methods, because the inline back end of matplotlib takes what formatters
    # have for figures away from all of them.
    _when_imported("matplotlib.figure", lambda m: setattr(m.Figure, "_repr_atoll_chart_", _chart))
    _when_imported("pandas.core.frame", lambda m: setattr(m.DataFrame, "_repr_atoll_data_", _data))
    _when_imported("matplotlib.axes._axes", _record_boxes)


def warm():
    """Loads what most code for data analysis begins with, and draws once, so
    that a kernel kept in a snapshot has done it before anybody waits for it."""
    import numpy
    import pandas
    from IPython import get_ipython
    from matplotlib import pyplot

    formatter = get_ipython().display_formatter
    figure, axes = pyplot.subplots()  # loads the back end
    axes.plot(numpy.arange(3), label="a")
    formatter.format(figure)
    pyplot.close(figure)
    frame = pandas.DataFrame({"a": [1]})
    formatter.format(frame)


# The modules that read figures and frames are loaded with the first of them.


def _chart(figure):
    from . import charts

    return charts.of_figure(figure)


def _data(frame):
    from . import frames

    return frames.of_frame(frame)


def _record_boxes(module):
    from . import charts

    charts.record_boxes(module.Axes)


def _when_imported(name, call):
    """Calls with a module as soon as it is there, whoever imports it."""
    if name in sys.modules:
        call(sys.modules[name])
    else:
        sys.meta_path.insert(0, _Watch(name, call))


class _Watch(importlib.abc.MetaPathFinder):
    def __init__(self, name, call):
        self.name, self.call = name, call

    def find_spec(self, name, path, target=None):
        if name != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return None
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            self.call(module)

        spec.loader.exec_module = exec_module
        return spec
