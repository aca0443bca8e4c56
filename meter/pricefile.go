package meter

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
)

// maxPrices bounds a file of prices, in bytes.
const maxPrices = 1 << 20

var planName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$`)

// ReadPrices reads a table of prices from a file. What is wrong with it is told
// with its line.
func ReadPrices(path string) (*Prices, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the prices: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPrices+1))
	if err != nil {
		return nil, fmt.Errorf("read the prices: %w", err)
	}
	if len(b) > maxPrices {
		return nil, fmt.Errorf("read the prices: %s is larger than %d bytes", path, maxPrices)
	}
	return ParsePrices(path, b)
}

// ParsePrices reads a table of prices. The name is that of its file, for errors.
func ParsePrices(name string, b []byte) (*Prices, error) {
	p := parser{data: b, json: json.NewDecoder(bytes.NewReader(b))}
	p.json.UseNumber()
	prices, err := p.prices()
	if err != nil {
		return nil, fmt.Errorf("%s:%d: %w", name, p.line(err), err)
	}
	return prices, nil
}

// parser reads a table of prices token by token, so that it knows the line of
// each, which decoding into a struct does not tell.
type parser struct {
	data []byte
	json *json.Decoder
}

// line is where the parser stopped, counted from 1.
func (p *parser) line(err error) int {
	at := p.json.InputOffset()
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		at = syntax.Offset
	}
	return 1 + bytes.Count(p.data[:min(max(at, 0), int64(len(p.data)))], []byte("\n"))
}

// fields reads an object and calls f at the value of each of its fields.
func (p *parser) fields(what string, f func(name string) error) error {
	if t, err := p.token(); err != nil {
		return err
	} else if t != json.Delim('{') {
		return fmt.Errorf("%s must be an object, {…}", what)
	}
	seen := map[string]bool{}
	for p.json.More() {
		t, err := p.token()
		if err != nil {
			return err
		}
		name, _ := t.(string)
		if seen[name] {
			return fmt.Errorf("%s has %q twice", what, clip(name))
		}
		seen[name] = true
		if err := f(name); err != nil {
			return err
		}
	}
	_, err := p.token()
	return err
}

func (p *parser) token() (json.Token, error) {
	t, err := p.json.Token()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return t, err
}

func (p *parser) text(what string) (string, error) {
	t, err := p.token()
	if err != nil {
		return "", err
	}
	s, ok := t.(string)
	if !ok {
		return "", fmt.Errorf("%s must be a text, in quotes", what)
	}
	return s, nil
}

func unknown(what, name, known string) error {
	return fmt.Errorf("%s has no field %q; it has %s", what, clip(name), known)
}

// prices reads the whole table.
func (p *parser) prices() (*Prices, error) {
	out := &Prices{Plans: map[string]Plan{}}
	err := p.fields("the table", func(name string) (err error) {
		switch name {
		case "currency":
			out.Currency, err = p.text("currency")
		case "default":
			out.Default, err = p.text("default")
		case "plans":
			err = p.fields("plans", func(name string) error {
				if !planName.MatchString(name) {
					return fmt.Errorf("%q cannot be the name of a plan: use up to 32 letters, digits, '.', '_' and '-'", clip(name))
				}
				out.Plans[name], err = p.plan(name)
				return err
			})
		default:
			err = unknown("the table", name, "currency, default and plans")
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if _, err := p.json.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is something behind the table")
	}
	switch _, ok := out.Plans[out.Default]; {
	case out.Currency == "":
		return nil, errors.New(`the table lacks "currency", such as "USD"`)
	case len(out.Plans) == 0:
		return nil, errors.New(`the table has no plans`)
	case !ok:
		return nil, fmt.Errorf(`"default" names no plan of the table: %q`, clip(out.Default))
	}
	return out, nil
}

func (p *parser) plan(plan string) (Plan, error) {
	out := Plan{Name: plan}
	what := "plan " + plan
	err := p.fields(what, func(name string) (err error) {
		field := plan + "." + name
		switch name {
		case "note":
			out.Note, err = p.text(field)
		case "basis":
			out.Basis, err = p.text(field)
			if err == nil && out.Basis != BasisUsed && out.Basis != BasisAllocated {
				err = fmt.Errorf("%s is %q; use %q or %q", field, clip(out.Basis), BasisUsed, BasisAllocated)
			}
		case "cpu":
			out.CPU, err = p.price(field, cpuUnits)
		case "memory":
			out.Memory, err = p.price(field, byteUnits)
		case "disk":
			out.Disk, err = p.price(field, byteUnits)
		case "diskAwake":
			out.DiskAwake, err = p.price(field, byteUnits)
		default:
			err = unknown(what, name, "note, basis, cpu, memory, disk and diskAwake")
		}
		return err
	})
	if err == nil && out.Basis == "" {
		err = fmt.Errorf("%s lacks \"basis\": %q or %q", what, BasisUsed, BasisAllocated)
	}
	return out, err
}

func (p *parser) price(what string, units map[string]float64) (Price, error) {
	var out Price
	priced := false
	err := p.fields(what, func(name string) (err error) {
		switch name {
		case "price":
			out.Price, err = p.number(what + ".price")
			priced = true
		case "per":
			out.Per, err = p.text(what + ".per")
			if _, ok := unit(units, out.Per); err == nil && !ok {
				err = fmt.Errorf("%s.per is %q; use one of %s", what, clip(out.Per), unitNames(units))
			}
		default:
			err = unknown(what, name, "price and per")
		}
		return err
	})
	if err == nil && (!priced || out.Per == "") {
		err = fmt.Errorf("%s needs both \"price\" and \"per\"", what)
	}
	return out, err
}

// number reads a price, which cannot be negative.
func (p *parser) number(what string) (float64, error) {
	t, err := p.token()
	if err != nil {
		return 0, err
	}
	text, ok := t.(json.Number)
	if !ok {
		return 0, fmt.Errorf("%s must be a number", what)
	}
	n, err := strconv.ParseFloat(string(text), 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%s is %s; a price is a number and not negative", what, clip(string(text)))
	}
	return n, nil
}
