package migrate

import (
	"regexp"
	"strings"
)

// User is somebody who may log in.
type User struct {
	Name     string
	Scheme   string // of the stored password, in capitals; empty: none is known
	Password string // as it is stored; never shown
	At       Place
}

// sasldbLine is a line of sasldblistusers2: the user with its realm, and the name of
// what is stored, never its value.
var sasldbLine = regexp.MustCompile(`^(\S+): (userPassword|cmusaslsecret\S*)$`)

// schemeOf is {SCHEME} before a password of Dovecot's.
var schemeOf = regexp.MustCompile(`^\{([A-Za-z0-9.-]+)\}`)

// parseUsers reads a passwd-file of Dovecot, what sasldblistusers2 printed, or a name in
// each line; the form of each line tells which it is.
func parseUsers(file, text string) (users []User) {
	seen, number := make(map[string]bool), 0
	for raw := range strings.Lines(text) {
		number++
		l := strings.TrimSpace(raw)
		if l == "" || l[0] == '#' {
			continue
		}
		u := parseUser(l)
		u.At = Place{file, number}
		if u.Name == "" || seen[u.Name] {
			continue
		}
		seen[u.Name] = true
		users = append(users, u)
	}
	return users
}

func parseUser(l string) (u User) {
	if m := sasldbLine.FindStringSubmatch(l); m != nil {
		u.Name = m[1]
		return u
	}
	fields := strings.Split(l, ":")
	u.Name = strings.TrimSpace(fields[0])
	if len(fields) < 2 || fields[1] == "" {
		return u
	}
	u.Password, u.Scheme = fields[1], "CRYPT"
	if m := schemeOf.FindStringSubmatch(fields[1]); m != nil {
		u.Scheme, u.Password = strings.ToUpper(m[1]), fields[1][len(m[0]):]
		if u.Scheme == "CLEARTEXT" || u.Scheme == "CLEAR" {
			u.Scheme = "PLAIN"
		}
	}
	return u
}
