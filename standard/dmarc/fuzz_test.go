package dmarc

import (
	"context"
	"slices"
	"strings"
	"testing"

	"anechoic/mail"
)

func FuzzPolicyRecord(f *testing.F) {
	for _, s := range []string{
		"v=DMARC1; p=none", "V = DMARC1;P=reject;sp=Quarantine; np=none; adkim=s; aspf=r; t=y; psd=n; fo=1:d:s; rua=mailto:a@b.example!10m,https://x/%20; ruf=mailto:a@b",
		"v=DMARC1;p=none;p=reject", "v=DMARC1; p", "v=DMARC1;=;;;", "v=DMARC1 ", "v=DMARC1x", "v=DMARC1; rua=,,!", "v=DMARC1; p=\xff", " v=DMARC1",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := Parse(s)
		if err != nil {
			return
		}
		if r.Text != s || len(r.AggregateURIs) > MaxURIs || len(r.FailureURIs) > MaxURIs || len(r.Problems) > maxProblems {
			t.Fatalf("%+v", r)
		}
		for _, relation := range []Relation{Same, Subdomain, Nonexistent} {
			if r.PolicyFor(relation) == NoPolicy {
				t.Fatalf("no policy for relation %d: %+v", relation, r)
			}
		}
		for _, p := range r.Problems {
			if p.Offset <= 0 || p.Offset > len(s) {
				t.Fatalf("%v", p)
			}
		}
		for _, uri := range append(r.AggregateURIs, r.FailureURIs...) {
			if !strings.Contains(s, uri) || strings.ContainsAny(uri, " ,;!\r\n") {
				t.Fatalf("%q", uri)
			}
		}
		if again, err := Parse(strings.TrimRight(s, wsp+";") + " ; "); err != nil || again.Policy != r.Policy || again.Applies() != r.Applies() {
			t.Fatalf("another end changes %+v to %+v, %v", r, again, err)
		}
	})
}

// FuzzEvaluate writes a zone and a message in lines:
//
//	name record   a TXT record at _dmarc.name; "!" is a fault
//	@ name        a From domain
//	+ name        SPF pass, ? name: temperror, - name: fail; each again: DKIM
//
// and holds the result to what must be true of any.
func FuzzEvaluate(f *testing.F) {
	f.Add("example.com v=DMARC1; p=reject\n@ example.com\n+ a.example.com\n- example.com", false)
	f.Add("example.com v=DMARC1; p=none; np=reject\n@ a.example.com\n? b.example.com\n+ example.net", true)
	f.Add("com v=DMARC1; p=reject; psd=y\nb.example.com v=DMARC1; psd=n; rua=mailto:a@b\n@ a.b.example.com\n@ example.net\n- x.example\n+ a.example.com", false)
	f.Add("a.example.com v=DMARC1; p=reject; t=y; adkim=s\nexample.com !\n@ a.example.com\n- a\n+ b.example.com", false)
	f.Fuzz(func(t *testing.T, script string, suffixes bool) {
		zone, m := records{}, Message{}
		readScript(script, zone, &m)
		method := TreeWalk
		if suffixes {
			method = PublicSuffix
		}
		r := Evaluate(context.Background(), plain{texts: zone}, method, m)
		checkResult(t, r, m)
		if again := Evaluate(context.Background(), plain{texts: zone}, method, m); again.Status != r.Status || again.Policy != r.Policy || again.Author != r.Author {
			t.Fatalf("%+v, then %+v", r, again)
		}
	})
}

func readScript(script string, zone records, m *Message) {
	outcomes := map[string]Outcome{"+": Authenticated, "?": Undetermined, "-": Unauthenticated}
	spf := false
	for line := range strings.Lines(script) {
		first, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if first == "@" {
			d, _ := mail.ParseDomain(rest)
			m.From = append(m.From, d)
			continue
		}
		outcome, isIdentifier := outcomes[first]
		if !isIdentifier {
			if d, err := mail.ParseDomain(first); err == nil && rest == "!" {
				zone["_dmarc."+d.String()] = []string{"SERVFAIL"}
			} else if err == nil {
				zone["_dmarc."+d.String()] = append(zone["_dmarc."+d.String()], rest)
			}
			continue
		}
		d, err := mail.ParseDomain(rest)
		switch id := (Identifier{d, outcome}); {
		case err != nil:
		case !spf:
			m.SPF, spf = id, true
		default:
			m.DKIM = append(m.DKIM, id)
		}
	}
}

// checkResult is what holds for every result: above all, that a pass has an
// authenticated identifier which is aligned and stands near the From domain.
func checkResult(t *testing.T, r Result, m Message) {
	t.Helper()
	aligned := func(a Alignment) bool {
		return a.Aligned && a.Outcome == Authenticated && (a.Domain == r.Author ||
			!a.Strict && !r.OrganisationalDomain.IsZero() && a.Domain.Within(r.OrganisationalDomain))
	}
	ids := append([]Alignment{r.SPF}, r.DKIM...)
	switch {
	case (r.Status == Pass) != (r.Err == nil):
		t.Fatalf("%s, %v", r.Status, r.Err)
	case r.Status == Pass && !slices.ContainsFunc(ids, aligned):
		t.Fatalf("a pass without an aligned pass: %+v", r)
	case r.Status == Fail && slices.ContainsFunc(ids, aligned):
		t.Fatalf("a fail with an aligned pass: %+v", r)
	case r.Status != Pass && r.Status != Fail && r.Policy != NoPolicy:
		t.Fatalf("%s with policy %s", r.Status, r.Policy)
	case (r.Status == Pass || r.Status == Fail) && (r.Policy == NoPolicy || r.Domain.IsZero()):
		t.Fatalf("%s without policy or domain: %+v", r.Status, r)
	case r.Policy > r.Published || r.Testing && r.Policy == PolicyReject:
		t.Fatalf("policy %s of %s, testing %v", r.Policy, r.Published, r.Testing)
	case !r.Domain.IsZero() && !r.Author.Within(r.Domain):
		t.Fatalf("the record of %s for %s", r.Domain, r.Author)
	case !r.OrganisationalDomain.IsZero() && !r.Author.Within(r.OrganisationalDomain):
		t.Fatalf("%s is the organisation of %s", r.OrganisationalDomain, r.Author)
	case r.Status != PermError && !slices.Contains(m.From, r.Author):
		t.Fatalf("%s is no From domain", r.Author)
	}
}

func FuzzSuffixList(f *testing.F) {
	f.Add("// a list\ncom\n*.ck\n!www.ck\n公司.cn\n*\n", "www.www.ck")
	f.Add("a.b\n*.a.b\n!c.a.b", "x.c.a.b")
	f.Fuzz(func(t *testing.T, list, name string) {
		l, err := ParseSuffixList(strings.NewReader(list))
		d, bad := mail.ParseDomain(name)
		if err != nil || bad != nil {
			return
		}
		suffix := l.PublicSuffix(d.String())
		if suffix != "" && suffix != d.String() && !strings.HasSuffix(d.String(), "."+suffix) {
			t.Fatalf("%q is the public suffix of %s", suffix, d)
		}
		if org := l.Method().registered(d); org.IsZero() || !d.Within(org) {
			t.Fatalf("%s is the organisation of %s", org, d)
		}
	})
}
