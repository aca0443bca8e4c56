package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"

	usagedoor "github.com/atoll-cloud/atoll/api/usage"
	"github.com/atoll-cloud/atoll/meter"
)

// pricesName is the file in the data directory with a table of prices of the
// operator's own.
const pricesName = "prices.json"

// openMeter reads the prices and opens what counts usage.
func (s *server) openMeter(ctx context.Context) error {
	prices, err := s.config.prices()
	if err != nil {
		return err
	}
	if s.meter, err = meter.Open(ctx, meter.Config{Store: s.records, Prices: prices, Logger: s.log}); err != nil {
		return fmt.Errorf("open the meter: %w", err)
	}
	return nil
}

// prices reads the table that the operator named or put into the data
// directory; nil is the one that comes with Atoll.
func (c *upConfig) prices() (*meter.Prices, error) {
	if c.Prices != "" {
		return meter.ReadPrices(c.Prices)
	}
	prices, err := meter.ReadPrices(filepath.Join(c.Data, pricesName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return prices, err
}

// usageDoor is where usage is asked for.
func (s *server) usageDoor() http.Handler {
	return usagedoor.New(usagedoor.Config{Meter: s.meter, Accounts: s.accounts, Logger: s.log})
}
