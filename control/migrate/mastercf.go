package migrate

import "strings"

// Service is a line of master.cf.
type Service struct {
	Name, Type, Command string
	Overrides           []Setting // of -o
	At                  Place
}

// key is what makes two lines of master.cf the same service.
func (s *Service) key() string { return s.Name + "/" + s.Type }

// masterFields is how many fields stand before the arguments of a command (master(5)).
const masterFields = 8

// parseMaster reads master.cf; of a service that is there twice the last counts.
func parseMaster(file, text string) (services []Service, strays []Setting) {
	index := make(map[string]int)
	for _, l := range logicalLines(text) {
		fields := words(l.text)
		at := Place{file, l.number}
		if len(fields) < masterFields {
			strays = append(strays, Setting{Text: l.text, At: at})
			continue
		}
		s := Service{Name: fields[0], Type: fields[1], Command: fields[7], At: at, Overrides: overrides(fields[masterFields:], at)}
		if i, again := index[s.key()]; again {
			services[i] = s
			continue
		}
		index[s.key()] = len(services)
		services = append(services, s)
	}
	return services, strays
}

// words cuts at white space; what stands in braces stays together.
func words(s string) (list []string) {
	depth, from := 0, -1
	for i := 0; i <= len(s); i++ {
		end := i == len(s)
		if !end {
			switch s[i] {
			case '{':
				depth++
			case '}':
				depth = max(depth-1, 0)
			}
			end = depth == 0 && isSpace(s[i])
		}
		switch {
		case end && from >= 0:
			list, from = append(list, s[from:i]), -1
		case !end && from < 0:
			from = i
		}
	}
	return list
}

// overrides reads -o name=value, -oname=value and -o { name = value }.
func overrides(arguments []string, at Place) (list []Setting) {
	for i := 0; i < len(arguments); i++ {
		text, ok := strings.CutPrefix(arguments[i], "-o")
		if !ok {
			continue
		}
		if text == "" && i+1 < len(arguments) {
			i++
			text = arguments[i]
		}
		name, value, ok := strings.Cut(unbrace(text), "=")
		if name = strings.TrimSpace(name); ok && isName(name) {
			list = append(list, Setting{Name: name, Text: strings.TrimSpace(value), At: at})
		}
	}
	return list
}

// listens says where a network service listens: host is empty for every interface.
func (s *Service) listens() (host, port string) {
	name := s.Name
	if i := strings.LastIndexByte(name, ':'); i >= 0 {
		host, name = strings.Trim(name[:i], "[]"), name[i+1:]
	}
	switch name {
	case "smtp":
		name = "25"
	case "smtps", "submissions":
		name = "465"
	case "submission":
		name = "587"
	}
	return host, name
}
