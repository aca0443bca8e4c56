package service

import (
	"maps"
	"slices"
)

// findCircle returns the names along a circle that leads from a service back to
// itself, nil if there is none. Needs that are no services lead nowhere.
func findCircle(name string, needs func(string) []string) []string {
	seen := map[string]bool{}
	var path []string
	var walk func(string) bool
	walk = func(at string) bool {
		path = append(path, at)
		for _, next := range needs(at) {
			if next == name {
				path = append(path, next)
				return true
			}
			if !seen[next] {
				seen[next] = true
				if walk(next) {
					return true
				}
			}
		}
		path = path[:len(path)-1]
		return false
	}
	if walk(name) {
		return path
	}
	return nil
}

// startOrder returns all names so that each comes after those that it needs,
// otherwise in alphabetical order. In circles some come before what they need.
func startOrder(needs map[string][]string) []string {
	order := make([]string, 0, len(needs))
	done := map[string]bool{}
	var visit func(string)
	visit = func(name string) {
		of, exists := needs[name]
		if done[name] || !exists {
			return
		}
		done[name] = true
		for _, need := range of {
			visit(need)
		}
		order = append(order, name)
	}
	for _, name := range slices.Sorted(maps.Keys(needs)) {
		visit(name)
	}
	return order
}
