package machine

import (
	"slices"
	"testing"
)

// Every state leads to Ended, and nothing leads out of it.
func TestMovesLeadToTheEnd(t *testing.T) {
	for from := range moves {
		seen, todo := map[State]bool{}, []State{from}
		for len(todo) > 0 {
			s := todo[0]
			todo = todo[1:]
			if seen[s] {
				continue
			}
			seen[s] = true
			if _, known := moves[s]; !known {
				t.Errorf("%s leads to %q, which is no state", from, s)
			}
			todo = append(todo, moves[s]...)
		}
		if !seen[Ended] {
			t.Errorf("a machine that is %s can never end", from)
		}
	}
	if len(moves[Ended]) != 0 {
		t.Errorf("an ended machine can become %v", moves[Ended])
	}
	if slices.Contains(moves[Running], Creating) {
		t.Error("a running machine can be created again")
	}
}
