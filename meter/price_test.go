package meter

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDefaultPricesAreThePublishedOnes(t *testing.T) {
	p := DefaultPrices()
	hour := Usage{CPUSeconds: 3600, CPUAllocatedSeconds: 7200, MemoryGiBSeconds: 3600, MemoryAllocatedGiBSeconds: 1800, DiskGiBSeconds: 730 * 3600}
	for name, want := range map[string]Cost{
		"e2b":     {CPU: 2 * 0.0504, Memory: 0.0162 / 2}, // E2B's example of a default sandbox
		"sprites": {CPU: 0.07, Memory: 0.04375 * gib / 1e9, Disk: 0.02 * gib / 1e9},
	} {
		plan, err := p.Plan(name)
		if err != nil {
			t.Fatal(err)
		}
		want.Total = want.CPU + want.Memory + want.Disk
		got := plan.Cost(hour)
		for _, d := range []float64{got.CPU - want.CPU, got.Memory - want.Memory, got.Disk - want.Disk, got.Total - want.Total} {
			if d > 1e-9 || d < -1e-9 {
				t.Errorf("%s: %+v, want %+v", name, got, want)
				break
			}
		}
	}
	if plan, err := p.Plan(""); err != nil || plan.Name != "sprites" {
		t.Errorf("the default plan is %+v, %v", plan, err)
	}
}

// What is wrong with a file is told with its line.
func TestWrongPrices(t *testing.T) {
	const good = `{
  "currency": "EUR",
  "default": "flat",
  "plans": {
    "flat": {
      "basis": "used",
      "cpu": {"price": 0.05, "per": "vCPU-hour"},
      "disk": {"price": 1e-2, "per": "GiB-month"}
    }
  }
}`
	if p, err := ParsePrices("p", []byte(good)); err != nil || p.Plans["flat"].Disk.Price != 0.01 || p.Currency != "EUR" {
		t.Fatalf("%+v, %v", p, err)
	}
	for _, c := range []struct{ old, new, want string }{
		{`"used"`, `"guessed"`, `p:6: flat.basis is "guessed"; use "used" or "allocated"`},
		{`0.05`, `-1`, "p:7: flat.cpu.price is -1"},
		{`0.05`, `1e999`, "p:7: flat.cpu.price is 1e999"},
		{`0.05`, `"0.05"`, "p:7: flat.cpu.price must be a number"},
		{`vCPU-hour`, `GB-hour`, `p:7: flat.cpu.per is "GB-hour"; use one of vCPU-second`},
		{`GiB-month`, `GiB`, `p:8: flat.disk.per is "GiB"; use one of GB-second`},
		{`, "per": "GiB-month"`, ``, `p:8: flat.disk needs both`},
		{`"disk"`, `"disc"`, `p:8: plan flat has no field "disc"`},
		{`"disk"`, `"cpu"`, `p:8: plan flat has "cpu" twice`},
		{`{"price": 1e-2, "per": "GiB-month"}`, `3`, `p:8: flat.disk must be an object`},
		{`1e-2`, `01`, "p:8: invalid character"},
		{`"flat": {`, `"": {`, `p:5: "" cannot be the name of a plan`},
		{`"default": "flat"`, `"default": "round"`, `"default" names no plan of the table: "round"`},
		{`"currency": "EUR",`, ``, `the table lacks "currency"`},
		{`"basis": "used",`, ``, `plan flat lacks "basis"`},
		{"  }\n}", "  }", "p:10: unexpected EOF"},
		{"  }\n}", "  }\n}{}", "p:11: there is something behind the table"},
		{good, "", "p:1: unexpected EOF"},
		{good, "[]", "p:1: the table must be an object"},
		{good, "{}", `p:1: the table lacks "currency"`},
		{good, "currency = EUR", "p:1: invalid character"},
	} {
		if !strings.Contains(good, c.old) {
			t.Fatal(c.old)
		}
		_, err := ParsePrices("p", []byte(strings.Replace(good, c.old, c.new, 1)))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s instead of %.40s: %v, want %q", c.new, c.old, err, c.want)
		}
	}
	path := filepath.Join(t.TempDir(), "prices.json")
	if _, err := ReadPrices(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if err := os.WriteFile(path, make([]byte, maxPrices+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadPrices(path); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("a large file: %v", err)
	}
}

func FuzzParsePrices(f *testing.F) {
	f.Add(defaultPrices)
	f.Add([]byte(`{"currency":"x","default":"a","plans":{"a":{"basis":"used"}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePrices("f", b)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "f:") {
				t.Errorf("an error without a line: %v", err)
			}
			return
		}
		if _, err := p.Plan(""); err != nil {
			t.Error(err)
		}
	})
}
