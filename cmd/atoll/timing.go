package main

import (
	"fmt"
	"time"
)

// timing is how long each step of something took.
type timing struct {
	steps []step
}

type step struct {
	name string
	took time.Duration
}

// measure does one step and keeps its time.
func (t *timing) measure(name string, f func() error) error {
	start := time.Now()
	err := f()
	t.steps = append(t.steps, step{name, time.Since(start)})
	return err
}

// lines are the steps as text, aligned.
func (t *timing) lines() []string {
	w := 0
	for _, s := range t.steps {
		w = max(w, len(s.name))
	}
	var l []string
	for _, s := range t.steps {
		l = append(l, fmt.Sprintf("%-*s %10s", w, s.name, millis(s.took)))
	}
	return l
}
