package command

import "strings"

// flags are the options and the other arguments of a command. Options may stand
// anywhere, and take the next argument whatever it begins with.
type flags struct {
	values map[string][]string
	names  []string
}

// parse reads arguments; options are those that there are, with whether they
// take a value.
func parse(args []string, options map[string]bool) (*flags, error) {
	f := &flags{values: map[string][]string{}}
	for i := 0; i < len(args); i++ {
		option, isOption := strings.CutPrefix(args[i], "--")
		if !isOption {
			f.names = append(f.names, args[i])
			continue
		}
		option, value, joined := strings.Cut(option, "=")
		takes, exists := options[option]
		switch {
		case !exists:
			return nil, wrong("there is no option --%s here", option)
		case !takes && joined:
			return nil, wrong("--%s takes no value", option)
		case takes && !joined:
			if i++; i == len(args) {
				return nil, wrong("--%s needs a value", option)
			}
			value = args[i]
		}
		f.values[option] = append(f.values[option], value)
	}
	return f, nil
}

// name returns the only argument that is no option.
func (f *flags) name(what string) (string, error) {
	if len(f.names) != 1 {
		return "", wrong("name one %s", what)
	}
	return f.names[0], nil
}

// last returns an option's value, the last if it was given more than once.
func (f *flags) last(option string) string {
	if all := f.values[option]; len(all) > 0 {
		return all[len(all)-1]
	}
	return ""
}

func (f *flags) has(option string) bool { return len(f.values[option]) > 0 }

// list returns the values of an option that takes several, with commas between
// them.
func (f *flags) list(option string) (all []string) {
	for _, value := range f.values[option] {
		if value != "" {
			all = append(all, strings.Split(value, ",")...)
		}
	}
	return all
}

// pairs returns the values of an option like K=V,L=W. What has no '=' belongs to
// the value before it, so that values may hold commas.
func (f *flags) pairs(option string) (map[string]string, error) {
	pairs, last := map[string]string{}, ""
	for _, part := range f.list(option) {
		key, value, ok := strings.Cut(part, "=")
		switch {
		case ok:
			pairs[key], last = value, key
		case last == "":
			return nil, wrong("--%s: write %s as NAME=VALUE", option, part)
		default:
			pairs[last] += "," + part
		}
	}
	return pairs, nil
}
