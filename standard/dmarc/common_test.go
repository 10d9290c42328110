package dmarc

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"anechoic/mail"
	"anechoic/mail/dns"
)

func domain(t testing.TB, s string) mail.Domain {
	t.Helper()
	d, err := mail.ParseDomain(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func domains(t testing.TB, list ...string) []mail.Domain {
	t.Helper()
	var out []mail.Domain
	for _, s := range list {
		out = append(out, domain(t, s))
	}
	return out
}

// records is a zone: TXT records by name, a name without any exists all the
// same. The record "SERVFAIL" makes the name fail.
type records map[string][]string

func (r records) zone() *dns.Zone {
	z := &dns.Zone{}
	for name, texts := range r {
		if slices.Contains(texts, "SERVFAIL") {
			z.SetFault(name, true)
			continue
		}
		z.SetTXT(name, texts...)
	}
	return z
}

// plain answers from a map, without what makes a zone true to the DNS. A name
// exists if it has an even number of octets.
type plain struct {
	mail.Resolver
	texts records
}

func (p plain) TXT(_ context.Context, name string) (mail.Answer[string], error) {
	texts, ok := p.texts[name]
	switch {
	case !ok:
		return mail.Answer[string]{}, mail.ErrNoDomain
	case slices.Contains(texts, "SERVFAIL"):
		return mail.Answer[string]{}, errors.New("a fault")
	}
	return mail.Answer[string]{Records: texts}, nil
}

func (p plain) CNAME(_ context.Context, name string) (mail.Answer[string], error) {
	if len(name)%2 == 1 {
		return mail.Answer[string]{}, mail.ErrNoDomain
	}
	return mail.Answer[string]{}, nil
}

// listening notes the names of the TXT look-ups and of the existence tests.
type listening struct {
	mail.Resolver
	asked []string
}

func (l *listening) TXT(ctx context.Context, name string) (mail.Answer[string], error) {
	l.asked = append(l.asked, name)
	return l.Resolver.TXT(ctx, name)
}

func (l *listening) CNAME(ctx context.Context, name string) (mail.Answer[string], error) {
	l.asked = append(l.asked, name)
	return l.Resolver.CNAME(ctx, name)
}

// identifiers reads "pass a.example, temperror b.example".
func identifiers(t testing.TB, s string) []Identifier {
	t.Helper()
	outcomes := map[string]Outcome{"pass": Authenticated, "fail": Unauthenticated, "temperror": Undetermined}
	var list []Identifier
	for part := range strings.SplitSeq(s, ",") {
		word, name, ok := strings.Cut(strings.TrimSpace(part), " ")
		if !ok {
			continue
		}
		list = append(list, Identifier{domain(t, name), outcomes[word]})
	}
	return list
}

// message is From domains, an SPF result and DKIM results.
func message(t testing.TB, from, spf, dkim string) Message {
	t.Helper()
	m := Message{DKIM: identifiers(t, dkim)}
	for name := range strings.FieldsSeq(from) {
		m.From = append(m.From, domain(t, name))
	}
	if list := identifiers(t, spf); list != nil {
		m.SPF = list[0]
	}
	return m
}

// shared finds a folder beside the project, or where env says.
func shared(t testing.TB, env, name string) string {
	t.Helper()
	dir := os.Getenv(env)
	if dir == "" {
		dir = filepath.Join(projectRoot(t), "..", "shared", name)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("%s is not there: set %s to the folder of %s", dir, env, name)
	}
	return dir
}

// projectRoot is the folder of go.mod.
func projectRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("there is no go.mod above this package")
		}
		dir = filepath.Dir(dir)
	}
}

func read(t testing.TB, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
