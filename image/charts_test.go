package image

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// testPython returns a Python with what the tests of charts need. It is that of
// the SDK tests, or the one that ATOLL_TEST_PYTHON names.
func testPython(t *testing.T) string {
	t.Helper()
	python := os.Getenv("ATOLL_TEST_PYTHON")
	if python == "" {
		var err error
		if python, err = filepath.Abs("../test/.venv/bin/python"); err != nil {
			t.Fatal(err)
		}
	}
	const needs = "import IPython, e2b_code_interpreter, matplotlib, numpy, pandas, seaborn"
	if out, err := exec.Command(python, "-c", needs).CombinedOutput(); err != nil {
		t.Fatalf("%s cannot %q (\"make sdks\" installs that): %v\n%s", python, needs, err, out)
	}
	return python
}

type displayed struct {
	Chart any
	Data  any
	Model string
	PNG   bool
}

// runCells runs cells of Python, each of which displays, with our extension.
func runCells(t *testing.T, cells map[string]string) map[string][]displayed {
	t.Helper()
	folder, err := filepath.Abs("interpreter")
	if err != nil {
		t.Fatal(err)
	}
	task, err := json.Marshal(map[string]any{"package": folder, "cells": cells})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(testPython(t), "testdata/charts.py")
	cmd.Stdin = bytes.NewReader(task)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, &said, out)
	}
	var answers map[string][]displayed
	if err := json.Unmarshal(out, &answers); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return answers
}

const imports = `
import datetime
import matplotlib.pyplot as plt, numpy as np, pandas as pd, seaborn as sns
`

// chartCases: what is drawn, the class that the SDK makes of it, and what the
// chart has at least.
var chartCases = []struct{ name, code, model, want string }{
	{"line", `
plt.plot([0, 1, 2], [0.5, 1, float("nan")], label="rise")
plt.plot(np.arange(2), np.array([3, 4]), label="fall")
plt.title("Two lines"); plt.xlabel("Time (s)"); plt.ylabel("Speed [km/h]")`, "LineChart",
		`{"type": "line", "title": "Two lines", "x_label": "Time (s)", "x_unit": "s", "y_label": "Speed [km/h]", "y_unit": "km/h",
		"x_scale": "linear", "y_scale": "linear", "elements": [
		{"label": "rise", "points": [[0, 0.5], [1, 1]]}, {"label": "fall", "points": [[0, 3], [1, 4]]}]}`},
	{"ticks", `plt.plot([0, 10], [0, 1]); plt.xticks([0, 5, 10], ["low", "middle", "high"]); plt.yticks([0, 1])`, "LineChart",
		`{"x_ticks": [0, 5, 10], "x_tick_labels": ["low", "middle", "high"], "y_ticks": [0, 1], "y_tick_labels": ["0", "1"],
		"x_unit": null, "elements": [{"label": "Series 1", "points": [[0, 0], [10, 1]]}]}`},
	{"dates", `plt.plot([datetime.datetime(2023, 9, 1, 6), datetime.datetime(2023, 9, 2)], [1, 2])`, "LineChart",
		`{"x_scale": "datetime", "elements": [{"label": "Series 1", "points": [["2023-09-01T06:00:00", 1], ["2023-09-02T00:00:00", 2]]}]}`},
	{"dates of pandas", `pd.Series([1.0, 2.0], index=pd.date_range("2024-01-31", periods=2, freq="D"), name="visits").plot(legend=True)`, "LineChart",
		`{"x_scale": "datetime", "elements": [{"label": "visits", "points": [["2024-01-31T00:00:00", 1], ["2024-02-01T00:00:00", 2]]}]}`},
	{"categories", `plt.plot(["low", "high"], [1, 2], label="a")`, "LineChart",
		`{"x_scale": "categorical", "x_ticks": [0, 1], "x_tick_labels": ["low", "high"], "elements": [{"label": "a", "points": [["low", 1], ["high", 2]]}]}`},
	{"logarithmic", `plt.plot([1, 10], [1, 100]); plt.yscale("log")`, "LineChart", `{"x_scale": "linear", "y_scale": "log"}`},
	{"helping lines", `plt.plot([1, 2]); plt.axhline(1.5); plt.axvline(0.5); plt.grid(True)`, "LineChart",
		`{"elements": [{"label": "Series 1", "points": [[0, 1], [1, 2]]}]}`},
	{"error bars", `plt.errorbar([1, 2], [3, 4], yerr=[1, 1], capsize=3, label="e")`, "LineChart",
		`{"elements": [{"label": "Series 1", "points": [[1, 3], [2, 4]]}]}`},
	{"scatter", `plt.scatter([1, 2], [3, 4], label="a"); plt.scatter([5], [6], label="b")`, "ScatterChart",
		`{"type": "scatter", "elements": [{"label": "a", "points": [[1, 3], [2, 4]]}, {"label": "b", "points": [[5, 6]]}]}`},
	{"scattered with marks", `plt.plot([1, 2], [3, 4], "o", label="a")`, "ScatterChart",
		`{"type": "scatter", "elements": [{"label": "a", "points": [[1, 3], [2, 4]]}]}`},
	{"scatter with a line through it", `plt.scatter([1, 2], [3, 4], label="a"); plt.plot([1, 2], [3, 4], label="fit")`, "ScatterChart",
		`{"type": "scatter", "elements": [{"label": "a", "points": [[1, 3], [2, 4]]}, {"label": "fit", "points": [[1, 3], [2, 4]]}]}`},
	{"scatter of seaborn", `sns.scatterplot(data=pd.DataFrame({"x": [1, 2, 3], "y": [4, 5, 6], "kind": ["u", "v", "u"]}), x="x", y="y", hue="kind");`, "ScatterChart",
		`{"x_label": "x", "elements": [{"label": "u", "points": [[1, 4], [3, 6]]}, {"label": "v", "points": [[2, 5]]}]}`},
	{"bar", `
plt.figure(figsize=(10, 6))
plt.bar(["Author A", "Author B"], [100, 200], label="Books Sold", color="blue")
plt.xlabel("Authors"); plt.ylabel("Number of Books Sold"); plt.title("Book Sales by Authors")
plt.tight_layout(); plt.show()`, "BarChart",
		`{"type": "bar", "title": "Book Sales by Authors", "x_label": "Authors", "y_label": "Number of Books Sold", "x_unit": null, "y_unit": null, "elements": [
		{"label": "Author A", "group": "Books Sold", "value": 100}, {"label": "Author B", "group": "Books Sold", "value": 200}]}`},
	{"bars side by side", `
at = np.arange(2)
plt.bar(at - 0.2, [1, 2], 0.4, label="m"); plt.bar(at + 0.2, [3, 4], 0.4, label="w"); plt.xticks(at, ["G1", "G2"])`, "BarChart",
		`{"elements": [{"label": "G1", "group": "m", "value": 1}, {"label": "G2", "group": "m", "value": 2},
		{"label": "G1", "group": "w", "value": 3}, {"label": "G2", "group": "w", "value": 4}]}`},
	{"bars on top of bars", `plt.bar(["a"], [1], label="low"); plt.bar(["a"], [2.5], bottom=[1], label="high")`, "BarChart",
		`{"elements": [{"label": "a", "group": "low", "value": 1}, {"label": "a", "group": "high", "value": 2.5}]}`},
	{"horizontal bars", `plt.barh(["a", "b"], [1, -2])`, "BarChart",
		`{"elements": [{"label": "a", "group": "", "value": 1}, {"label": "b", "group": "", "value": -2}]}`},
	{"bars at numbers", `plt.bar([2020, 2021], [1, 2])`, "BarChart",
		`{"elements": [{"label": "2020", "value": 1}, {"label": "2021", "value": 2}]}`},
	{"bars of pandas", `pd.DataFrame({"m": [1, 2], "w": [3, 4]}, index=["G1", "G2"]).plot.bar()`, "BarChart",
		`{"elements": [{"label": "G1", "group": "m", "value": 1}, {"label": "G2", "group": "m", "value": 2},
		{"label": "G1", "group": "w", "value": 3}, {"label": "G2", "group": "w", "value": 4}]}`},
	{"bars of seaborn", `sns.barplot(data=pd.DataFrame({"d": ["Thu", "Fri", "Thu", "Fri"], "v": [1, 2, 3, 4], "k": ["m", "m", "w", "w"]}), x="d", y="v", hue="k");`, "BarChart",
		`{"elements": [{"label": "Thu", "group": "m", "value": 1}, {"label": "Fri", "group": "m", "value": 2},
		{"label": "Thu", "group": "w", "value": 3}, {"label": "Fri", "group": "w", "value": 4}]}`},
	{"histogram", `plt.hist([1, 1, 2, 4], bins=[0, 2, 4])`, "BarChart",
		`{"elements": [{"label": "0 - 2", "value": 2}, {"label": "2 - 4", "value": 2}]}`},
	{"pie", `plt.pie([1, 3], labels=["a", "b"], autopct="%d%%"); plt.title("Shares")`, "PieChart",
		`{"type": "pie", "title": "Shares", "elements": [{"label": "a", "angle": 90, "radius": 1}, {"label": "b", "angle": 270, "radius": 1}]}`},
	{"pie with a legend", `plt.pie([1, 1]); plt.legend(["a", "b"])`, "PieChart",
		`{"elements": [{"label": "a", "angle": 180}, {"label": "b", "angle": 180}]}`},
	{"boxes", `plt.boxplot([[1, 2, 3, 4, 20], [5, 6, 7]]); plt.xticks([1, 2], ["A", "B"]); plt.ylabel("Mass (kg)")`, "BoxAndWhiskerChart",
		`{"type": "box_and_whisker", "y_unit": "kg", "elements": [
		{"label": "A", "min": 1, "first_quartile": 2, "median": 3, "third_quartile": 4, "max": 4, "outliers": [20]},
		{"label": "B", "min": 5, "first_quartile": 5.5, "median": 6, "third_quartile": 6.5, "max": 7, "outliers": []}]}`},
	{"boxes lying and filled", `plt.boxplot([[1, 2, 3]], vert=False, patch_artist=True); plt.yticks([1], ["A"])`, "BoxAndWhiskerChart",
		`{"elements": [{"label": "A", "median": 2}]}`},
	{"boxes of pandas", `pd.DataFrame({"A": [1, 2, 3], "B": [4, 5, 6]}).boxplot()`, "BoxAndWhiskerChart",
		`{"elements": [{"label": "A", "median": 2}, {"label": "B", "median": 5}]}`},
	{"boxes of seaborn", `sns.boxplot(data=pd.DataFrame({"k": ["u", "u", "v"], "v": [1, 3, 5]}), x="k", y="v");`, "BoxAndWhiskerChart",
		`{"elements": [{"label": "u", "median": 2}, {"label": "v", "median": 5}]}`},
	{"several", `
fig, (one, two) = plt.subplots(1, 2)
one.plot([1, 2], label="a"); one.set_title("One"); two.pie([1]); fig.suptitle("Both"); plt.show()`, "SuperChart",
		`{"type": "superchart", "title": "Both", "elements": [{"type": "line", "title": "One"}, {"type": "pie", "title": ""}]}`},
	{"two scales", `
fig, one = plt.subplots(); two = one.twinx()
one.bar(["a"], [1]); two.plot(["a"], [5])`, "SuperChart", `{"elements": [{"type": "bar"}, {"type": "line", "elements": [{"points": [["a", 5]]}]}]}`},
	{"heat map with a scale", `plt.imshow([[1, 2]]); plt.colorbar(); plt.title("Heat")`, "Chart", `{"type": "unknown", "title": "Heat", "elements": []}`},
	{"shapes", `plt.gca().add_patch(plt.Circle((0, 0), 1))`, "Chart", `{"type": "unknown", "elements": []}`},
	{"in space", `plt.figure().add_subplot(projection="3d").plot([1, 2], [1, 2], [1, 2])`, "Chart", `{"type": "unknown"}`},
	{"nothing", `plt.figure(); plt.show()`, "", `null`},
}

func TestCharts(t *testing.T) {
	cells := make(map[string]string)
	for _, c := range chartCases {
		cells[c.name] = imports + c.code + "\nNone"
	}
	answers := runCells(t, cells)
	for _, c := range chartCases {
		t.Run(c.name, func(t *testing.T) {
			found := answers[c.name]
			if len(found) != 1 || found[0].PNG != (c.model != "") || found[0].Model != c.model {
				t.Fatalf("displayed %+v, want one picture and %s", found, c.model)
			}
			wantHas(t, found[0].Chart, c.want)
		})
	}
}

func TestManyPointsAreThinned(t *testing.T) {
	found := runCells(t, map[string]string{"x": imports + "plt.plot(range(250_000))\nNone"})["x"]
	points := found[0].Chart.(map[string]any)["elements"].([]any)[0].(map[string]any)["points"].([]any)
	if len(points) < 50_000 || len(points) > 100_000 {
		t.Errorf("%d points", len(points))
	}
}

func TestFrames(t *testing.T) {
	cases := []struct{ name, code, want string }{
		{"kinds", `pd.DataFrame({"n": [1, 2], "f": [1.5, np.nan], "t": ["a", None], "b": [True, False],
			"d": pd.to_datetime(["2024-01-01", None]), "i": [np.inf, 0], "c": pd.Categorical(["u", "v"]), "p": pd.array([1, None], dtype="Int64")})`,
			`{"n": [1, 2], "f": [1.5, null], "t": ["a", null], "b": [true, false], "d": ["2024-01-01T00:00:00", null],
			"i": [null, 0], "c": ["u", "v"], "p": [1, null]}`},
		{"columns with one name", `pd.DataFrame([[1, 2, 3]], columns=["a", "a", "b"])`, `{"a": [1], "a.1": [2], "b": [3]}`},
		{"columns in levels", `pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", 2024)]))`, `{"a, 2024": [1]}`},
		{"large numbers", `pd.DataFrame({"a": [2**60], "o": [datetime.timedelta(days=1)]})`, `{"a": ["1152921504606846976"], "o": ["1 days 00:00:00"]}`},
		{"empty", `pd.DataFrame()`, `{}`},
		{"too large", `pd.DataFrame(np.zeros((1000, 201)))`, `null`},
		{"a series", `pd.Series([1])`, `null`},
	}
	cells := make(map[string]string)
	for _, c := range cases {
		cells[c.name] = imports + "from IPython.display import display\ndisplay(" + c.code + ")"
	}
	answers := runCells(t, cells)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if found := answers[c.name]; len(found) != 1 {
				t.Errorf("displayed %+v", found)
			} else {
				wantHas(t, found[0].Data, c.want)
			}
		})
	}
}

func wantHas(t *testing.T, got any, want string) {
	t.Helper()
	var wanted any
	if err := json.Unmarshal([]byte(want), &wanted); err != nil {
		t.Fatal(err)
	}
	if problem := has(got, wanted, "it"); problem != "" {
		text, _ := json.Marshal(got)
		t.Errorf("%s\nin %s", problem, text)
	}
}

// has says what of want is not in got. Objects may have more than is wanted.
func has(got, want any, place string) string {
	switch want := want.(type) {
	case map[string]any:
		object, ok := got.(map[string]any)
		if !ok {
			return fmt.Sprintf("%s is %v, not an object", place, got)
		}
		for name, w := range want {
			if _, ok := object[name]; !ok {
				return fmt.Sprintf("%s has no %q", place, name)
			}
			if problem := has(object[name], w, place+"."+name); problem != "" {
				return problem
			}
		}
	case []any:
		list, ok := got.([]any)
		if !ok || len(list) != len(want) {
			return fmt.Sprintf("%s is %v, not %d items", place, got, len(want))
		}
		for i, w := range want {
			if problem := has(list[i], w, fmt.Sprintf("%s[%d]", place, i)); problem != "" {
				return problem
			}
		}
	case float64:
		if number, ok := got.(float64); !ok || math.Abs(number-want) > 1e-6*max(1, math.Abs(want)) {
			return fmt.Sprintf("%s is %v, not %v", place, got, want)
		}
	default:
		if got != want {
			return fmt.Sprintf("%s is %v, not %v", place, got, want)
		}
	}
	return ""
}
