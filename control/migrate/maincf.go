package migrate

import (
	"fmt"
	"slices"
	"strings"
)

// Setting is a parameter as it was written.
type Setting struct {
	Name, Text string
	At         Place
}

// Settings is main.cf, or what postconf printed, with the overrides of one service of
// master.cf on top. Of a parameter that is there twice the last counts (postconf(5)).
type Settings struct {
	values map[string]Setting
	order  []string
	above  *Settings // asked for what is not here; nil: none
	strays []Setting // lines that set nothing
	spent  int       // octets that were made of variables
}

// Bounds of what is made of $variables.
const (
	maxDepth     = 30
	maxVariables = 10_000    // in one parameter
	maxExpanded  = 16 << 20  // octets of one parameter
	maxSpent     = 256 << 20 // octets of all that is ever asked
)

// defaults are what counts of Postfix's own where main.cf says nothing, as far as
// anything here depends on it (postconf(5)).
var defaults = map[string]string{
	"config_directory":          "/etc/postfix",
	"data_directory":            "/var/lib/postfix",
	"queue_directory":           "/var/spool/postfix",
	"mail_name":                 "Postfix",
	"myorigin":                  "$myhostname",
	"mydestination":             "$myhostname, localhost.$mydomain, localhost",
	"inet_interfaces":           "all",
	"inet_protocols":            "all",
	"message_size_limit":        "10240000",
	"maximal_queue_lifetime":    "5d",
	"smtpd_relay_restrictions":  "permit_mynetworks, permit_sasl_authenticated, defer_unauth_destination",
	"smtpd_sasl_auth_enable":    "no",
	"smtpd_tls_auth_only":       "no",
	"smtp_helo_name":            "$myhostname",
	"smtp_tls_policy_maps":      "",
	"local_recipient_maps":      "proxy:unix:passwd.byname $alias_maps",
	"virtual_alias_maps":        "$virtual_maps",
	"proxy_interfaces":          "",
	"smtpd_client_restrictions": "",
}

// parseMain reads main.cf or the output of postconf.
func parseMain(file, text string) *Settings {
	s := &Settings{values: make(map[string]Setting)}
	for _, l := range logicalLines(text) {
		name, value, ok := strings.Cut(l.text, "=")
		set := Setting{Name: strings.TrimSpace(name), Text: strings.TrimSpace(value), At: Place{file, l.number}}
		if !ok || !isName(set.Name) {
			set.Text = l.text
			s.strays = append(s.strays, set)
			continue
		}
		s.set(set)
	}
	return s
}

func (s *Settings) set(v Setting) {
	if _, again := s.values[v.Name]; !again {
		s.order = append(s.order, v.Name)
	}
	s.values[v.Name] = v
}

// isName is what a parameter, or what stands behind a $, can be called.
func isName(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == ""
}

// over is the settings of a service with overrides of its own.
func (s *Settings) over(overrides []Setting) *Settings {
	o := &Settings{values: make(map[string]Setting), above: s}
	for _, v := range overrides {
		o.set(v)
	}
	return o
}

// Has says that a parameter was written.
func (s *Settings) Has(name string) bool {
	_, ok := s.written(name)
	return ok
}

func (s *Settings) written(name string) (Setting, bool) {
	for ; s != nil; s = s.above {
		if v, ok := s.values[name]; ok {
			return v, true
		}
	}
	return Setting{}, false
}

// Get is a parameter with its $variables replaced.
func (s *Settings) Get(name string) Setting {
	v, ok := s.written(name)
	if !ok {
		v = Setting{Name: name}
	}
	x := expansion{settings: s}
	v.Text = x.named(name)
	return v
}

// Yes says that a parameter is yes.
func (s *Settings) Yes(name string) bool { return strings.EqualFold(s.Get(name).Text, "yes") }

// List is a parameter cut into its items.
func (s *Settings) List(name string) []string { return split(s.Get(name).Text) }

// Expand replaces the $variables of a text.
func (s *Settings) Expand(text string) string {
	x := expansion{settings: s}
	return x.expand(text)
}

// expansion replaces variables: those that are open are not opened again, what grows
// too long ends.
type expansion struct {
	settings  *Settings
	open      []string
	depth     int
	made      int // octets so far
	variables int // replaced so far
	loops     []string
}

func (x *expansion) expand(s string) string {
	if x.depth++; x.depth > maxDepth {
		x.depth--
		return ""
	}
	defer func() { x.depth-- }()
	var b strings.Builder
	for {
		at := strings.IndexByte(s, '$')
		if at < 0 || x.made > maxExpanded || x.variables > maxVariables || x.settings.spent > maxSpent {
			x.made += len(s)
			x.settings.spent += len(s)
			b.WriteString(s[:min(len(s), maxExpanded)])
			return b.String()
		}
		x.made += at
		x.settings.spent += at
		x.variables++
		b.WriteString(s[:at])
		value, rest := x.variable(s[at+1:])
		b.WriteString(value)
		s = rest
	}
}

// variable reads what stands behind a $.
func (x *expansion) variable(s string) (value, rest string) {
	switch {
	case s == "":
		return "", ""
	case s[0] == '$':
		return "$", s[1:]
	case s[0] == '{' || s[0] == '(':
		inside, rest := bracket(s)
		return x.conditional(inside), rest
	}
	end := 0
	for end < len(s) && isName(s[end:end+1]) {
		end++
	}
	if end == 0 {
		return "$", s
	}
	return x.named(s[:end]), s[end:]
}

// bracket cuts s behind the bracket that closes its first.
func bracket(s string) (inside, rest string) {
	depth := 0
	for i := range len(s) {
		switch s[i] {
		case '{', '(':
			depth++
		case '}', ')':
			if depth--; depth == 0 {
				return s[1:i], s[i+1:]
			}
		}
	}
	return s[1:], ""
}

// conditional is name, name?value, name:value or name?{value}:{value}. Comparisons of
// values are rare outside of Postfix's own defaults: they give nothing.
func (x *expansion) conditional(s string) string {
	s = strings.TrimSpace(s)
	end := strings.IndexAny(s, "?:")
	if end < 0 {
		return x.named(s)
	}
	name, then := strings.TrimSpace(s[:end]), strings.TrimSpace(s[end+1:])
	if !isName(name) {
		return ""
	}
	full := x.named(name) != ""
	if s[end] == ':' {
		if full {
			return ""
		}
		return x.expand(unbrace(then))
	}
	otherwise := ""
	if strings.HasPrefix(then, "{") {
		inside, rest := bracket(then)
		then, otherwise = strings.TrimSpace(inside), unbrace(strings.TrimPrefix(strings.TrimSpace(rest), ":"))
	}
	if full {
		return x.expand(then)
	}
	return x.expand(otherwise)
}

// named is a variable's value. One that leads back to itself is empty, as Postfix
// would not start with it.
func (x *expansion) named(name string) string {
	if !isName(name) {
		return ""
	}
	if slices.Contains(x.open, name) || len(x.open) > maxDepth {
		x.loops = append(x.loops, name)
		return ""
	}
	v, ok := x.settings.written(name)
	if !ok {
		if name == "mydomain" {
			v.Text = x.domain()
		} else {
			v.Text = defaults[name]
		}
	}
	x.open = append(x.open, name)
	value := x.expand(v.Text)
	x.open = x.open[:len(x.open)-1]
	return strings.TrimSpace(value)
}

// domain is what mydomain is where it is not written.
func (x *expansion) domain() string {
	_, domain, ok := strings.Cut(x.named("myhostname"), ".")
	if !ok {
		return "localdomain"
	}
	return domain
}

// loops lists the parameters whose variables lead back to themselves, as far as a
// bounded look finds them.
func (s *Settings) loops() (found []Setting) {
	variables := 0
	for _, name := range s.order {
		x := expansion{settings: s}
		x.named(name)
		if variables += x.variables; variables > 10*maxVariables {
			return found
		}
		if len(x.loops) > 0 {
			v := s.values[name]
			v.Text = fmt.Sprintf("%s = %s ($%s leads back to itself)", name, v.Text, x.loops[0])
			found = append(found, v)
		}
	}
	return found
}
