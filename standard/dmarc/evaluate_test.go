package dmarc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"anechoic/mail"
)

// TestMessages is what Evaluate says: "status policy domain organisation".
func TestMessages(t *testing.T) {
	const (
		r     = "v=DMARC1; p=reject"
		fault = "SERVFAIL"
	)
	example := records{"_dmarc.example.com": {r}}
	nonexistent := records{"_dmarc.example.com": {"v=DMARC1; p=reject; sp=none; np=quarantine"}, "there.example.com": nil}
	bank := records{"_dmarc.bank.example": {r + "; psd=y; sp=quarantine; np=none"}, "_dmarc.giant.bank.example": {"v=DMARC1; p=quarantine"}, "mega.bank.example": nil}
	for _, c := range []struct {
		about           string
		zone            records
		from, spf, dkim string
		want            string
	}{
		{"DKIM of the same domain", example, "example.com", "", "pass example.com", "pass reject example.com example.com"},
		{"SPF of the same domain", example, "example.com", "pass example.com", "", "pass reject example.com example.com"},
		{"SPF of a sub-domain, relaxed", example, "example.com", "pass bounce.example.com", "", "pass reject example.com example.com"},
		{"siblings, relaxed", example, "a.example.com", "", "pass b.example.com", "pass reject example.com example.com"},
		{"nothing authenticated", example, "example.com", "fail example.com", "fail example.com", "fail reject example.com example.com"},
		{"another organisation", example, "example.com", "pass example.net", "pass example.org", "fail reject example.com example.com"},
		{"a name that only looks like it", example, "example.com", "", "pass badexample.com, pass example.com.evil.example", "fail reject example.com example.com"},
		{"the parent is not aligned below psd=y", bank, "giant.bank.example", "", "pass bank.example", "fail quarantine giant.bank.example giant.bank.example"},
		{"one good signature among bad ones", example, "example.com", "fail example.net", "fail example.com, pass example.net, pass example.com", "pass reject example.com example.com"},
		{"strict DKIM, the same", records{"_dmarc.example.com": {r + "; adkim=s"}}, "example.com", "", "pass example.com", "pass reject example.com example.com"},
		{"strict DKIM, a sub-domain", records{"_dmarc.example.com": {r + "; adkim=s"}}, "example.com", "", "pass a.example.com", "fail reject example.com example.com"},
		{"strict DKIM leaves SPF relaxed", records{"_dmarc.example.com": {r + "; adkim=s"}}, "example.com", "pass a.example.com", "pass a.example.com", "pass reject example.com example.com"},
		{"strict SPF leaves DKIM relaxed", records{"_dmarc.example.com": {r + "; aspf=s"}}, "example.com", "pass a.example.com", "pass a.example.com", "pass reject example.com example.com"},
		{"strict SPF", records{"_dmarc.example.com": {r + "; aspf=s"}}, "example.com", "pass a.example.com", "", "fail reject example.com example.com"},
		{"strictness is that of the record that applies", records{"_dmarc.example.com": {r + "; adkim=s"}, "_dmarc.a.example.com": {r}}, "a.example.com", "", "pass example.com", "pass reject a.example.com example.com"},
		{"psd=n parts a department off", records{"_dmarc.example.com": {r}, "_dmarc.dept.example.com": {r + "; psd=n"}}, "dept.example.com", "", "pass example.com", "fail reject dept.example.com dept.example.com"},
		{"and its head from it", records{"_dmarc.example.com": {r}, "_dmarc.dept.example.com": {r + "; psd=n"}}, "example.com", "", "pass www.dept.example.com", "fail reject example.com example.com"},
		{"B.4.3", bank, "giant.bank.example", "pass mail.giant.bank.example", "pass mail.mega.bank.example", "pass quarantine giant.bank.example giant.bank.example"},
		{"B.4.3 without SPF", bank, "giant.bank.example", "", "pass mail.mega.bank.example", "fail quarantine giant.bank.example giant.bank.example"},
		{"the suffix's sp= for one that exists", bank, "mega.bank.example", "", "", "fail quarantine bank.example mega.bank.example"},
		{"the suffix's np= for one that does not", bank, "mini.bank.example", "", "", "fail none bank.example mini.bank.example"},
		{"the suffix itself", bank, "bank.example", "", "", "fail reject bank.example bank.example"},

		{"p= for the domain itself", nonexistent, "example.com", "", "", "fail reject example.com example.com"},
		{"sp= for one that exists", nonexistent, "there.example.com", "", "", "fail none example.com example.com"},
		{"np= for one that does not", nonexistent, "nowhere.example.com", "", "", "fail quarantine example.com example.com"},
		{"sp= of a record at a sub-domain is for nobody", records{"_dmarc.a.example.com": {r + "; sp=none"}, "_dmarc.example.com": {"v=DMARC1; p=quarantine"}}, "b.a.example.com", "", "", "fail quarantine example.com example.com"},
		{"t=y: reject is quarantine", records{"_dmarc.example.com": {r + "; t=y"}}, "example.com", "", "", "fail quarantine example.com example.com"},
		{"t=y: quarantine is none", records{"_dmarc.example.com": {"v=DMARC1; p=quarantine; t=y"}}, "example.com", "", "", "fail none example.com example.com"},
		{"t=y: none is none", records{"_dmarc.example.com": {"v=DMARC1; p=none; t=y"}}, "example.com", "", "", "fail none example.com example.com"},
		{"t=y: sp= too", records{"_dmarc.example.com": {"v=DMARC1; p=none; sp=reject; t=y"}}, "a.example.com", "", "", "fail quarantine example.com example.com"},
		{"t=y changes no pass", records{"_dmarc.example.com": {r + "; t=y"}}, "example.com", "", "pass example.com", "pass quarantine example.com example.com"},
		{"pct= changes nothing", records{"_dmarc.example.com": {r + "; pct=0"}}, "example.com", "", "", "fail reject example.com example.com"},

		{"no record", records{}, "example.com", "pass example.com", "pass example.com", "none   example.com"},
		{"a record that says nothing", records{"_dmarc.example.com": {"v=DMARC1; p=rubbish"}}, "example.com", "", "pass example.com", "none  example.com example.com"},
		{"a record at the sub-domain that says nothing is the one all the same", records{"_dmarc.a.example.com": {"v=DMARC1"}, "_dmarc.example.com": {r}}, "a.example.com", "", "", "none  a.example.com example.com"},
		{"two records", records{"_dmarc.example.com": {r, r}}, "example.com", "", "pass example.com", "none   example.com"},
		{"reports alone are p=none", records{"_dmarc.example.com": {"v=DMARC1; rua=mailto:a@example.com"}}, "example.com", "", "", "fail none example.com example.com"},

		{"the record cannot be looked up", records{"_dmarc.example.com": {fault}}, "example.com", "pass example.com", "pass example.com", "temperror   "},
		{"the walk cannot be finished, no record yet", records{"_dmarc.example.com": {fault}}, "a.example.com", "", "pass a.example.com", "temperror   "},
		{"the walk cannot be finished, the same domain", records{"_dmarc.a.example.com": {r}, "_dmarc.example.com": {fault}}, "a.example.com", "", "pass a.example.com", "pass reject a.example.com "},
		{"the walk cannot be finished, a sibling", records{"_dmarc.a.example.com": {r}, "_dmarc.example.com": {fault}}, "a.example.com", "", "pass b.example.com", "temperror  a.example.com "},
		{"the walk cannot be finished, another top level", records{"_dmarc.a.example.com": {r}, "_dmarc.example.com": {fault}}, "a.example.com", "", "pass b.example.net", "fail reject a.example.com "},
		{"the walk cannot be finished, strict", records{"_dmarc.a.example.com": {r + "; adkim=s; aspf=s"}, "_dmarc.example.com": {fault}}, "a.example.com", "pass example.com", "pass b.example.com", "fail reject a.example.com "},
		{"the identifier's walk fails", records{"_dmarc.example.com": {r}, "_dmarc.b.example.com": {fault}}, "example.com", "", "pass b.example.com", "temperror  example.com example.com"},
		{"the identifier's walk fails, another passes", records{"_dmarc.example.com": {r}, "_dmarc.b.example.com": {fault}}, "example.com", "pass c.example.com", "pass b.example.com", "pass reject example.com example.com"},
		{"the walk of one that did not verify is not asked for", records{"_dmarc.example.com": {r}, "_dmarc.b.example.com": {fault}}, "example.com", "", "fail b.example.com", "fail reject example.com example.com"},
		{"an aligned key that cannot be looked up", example, "example.com", "", "temperror a.example.com", "temperror  example.com example.com"},
		{"SPF that cannot be looked up", example, "example.com", "temperror example.com", "fail example.com", "temperror  example.com example.com"},
		{"a foreign key that cannot be looked up", example, "example.com", "temperror example.net", "temperror example.org", "fail reject example.com example.com"},
		{"a key that cannot be looked up beside a pass", example, "example.com", "temperror example.com", "pass example.com", "pass reject example.com example.com"},
		{"existence that cannot be looked up", records{"_dmarc.example.com": {"v=DMARC1; p=none; np=reject"}, "a.example.com": {fault}}, "a.example.com", "", "", "temperror  example.com example.com"},
		{"existence that does not matter", records{"_dmarc.example.com": {"v=DMARC1; p=reject; np=reject"}, "a.example.com": {fault}}, "a.example.com", "", "", "fail reject example.com example.com"},
		{"existence beside a pass", records{"_dmarc.example.com": {"v=DMARC1; p=none; np=reject"}, "a.example.com": {fault}}, "a.example.com", "", "pass a.example.com", "pass none example.com example.com"},

		{"two From domains, both aligned", records{"_dmarc.example.com": {r}, "_dmarc.example.net": {r}}, "example.com example.net", "pass example.com", "pass example.net", "pass reject example.com example.com"},
		{"two From domains, one aligned", records{"_dmarc.example.com": {"v=DMARC1; p=none"}, "_dmarc.example.net": {r}}, "example.com example.net", "pass example.com", "", "fail reject example.net example.net"},
		{"the strictest policy of those that fail", records{"_dmarc.example.com": {"v=DMARC1; p=quarantine"}, "_dmarc.example.net": {r}}, "example.net example.com", "pass example.net", "", "fail quarantine example.com example.com"},
		{"two From domains, one without record", example, "example.com example.net", "pass example.com", "pass example.net", "none   example.net"},
		{"two From domains, one unknown and one rejected", records{"_dmarc.example.com": {r}, "_dmarc.example.net": {fault}}, "example.net example.com", "", "", "fail reject example.com example.com"},
		{"two From domains, one unknown and one quarantined", records{"_dmarc.example.com": {"v=DMARC1; p=quarantine"}, "_dmarc.example.net": {fault}}, "example.com example.net", "", "", "temperror   "},
		{"the same From domain twice", example, "example.com example.com", "", "pass example.com", "pass reject example.com example.com"},
		{"too many From domains", example, "example.com a.example b.example c.example d.example", "", "pass example.com", "permerror   "},
		{"no From domain", example, "", "pass example.com", "pass example.com", "permerror   "},
	} {
		got := Evaluate(context.Background(), c.zone.zone(), TreeWalk, message(t, c.from, c.spf, c.dkim))
		text := fmt.Sprintf("%s %s %s %s", got.Status, got.Policy, got.Domain, got.OrganisationalDomain)
		if text != c.want {
			t.Errorf("%s: %q, want %q (%v)", c.about, text, c.want, got.Err)
		}
		if (got.Status == Pass) != (got.Err == nil) {
			t.Errorf("%s: %s, %v", c.about, got.Status, got.Err)
		}
	}
}

func TestByPublicSuffixesSiblingsAreAlignedWithoutALookUp(t *testing.T) {
	resolver := &listening{Resolver: records{"_dmarc.example.co.uk": {"v=DMARC1; p=reject"}}.zone()}
	got := Evaluate(context.Background(), resolver, PublicSuffix, message(t, "a.example.co.uk", "pass b.example.co.uk", "pass example.org.uk, pass other.co.uk"))
	if got.Status != Pass || !got.SPF.Aligned || got.DKIM[0].Aligned || got.DKIM[1].Aligned || len(got.DKIM) != 2 {
		t.Errorf("%+v", got)
	}
	if want := []string{"_dmarc.a.example.co.uk", "_dmarc.example.co.uk"}; !slices.Equal(resolver.asked, want) {
		t.Errorf("asked for %q", resolver.asked)
	}
}

// TestAMessageCostsOneWalk holds for nearly all mail: one From domain, with
// identifiers of its own organisation or of foreign ones.
func TestAMessageCostsOneWalk(t *testing.T) {
	resolver := &listening{Resolver: records{"_dmarc.example.com": {"v=DMARC1; p=reject"}}.zone()}
	m := message(t, "news.example.com", "pass example.com", "pass news.example.com, pass sender.example.net, pass example.com")
	if got := Evaluate(context.Background(), resolver, TreeWalk, m); got.Status != Pass {
		t.Errorf("%+v", got)
	}
	if want := []string{"_dmarc.news.example.com", "_dmarc.example.com", "_dmarc.com"}; !slices.Equal(resolver.asked, want) {
		t.Errorf("asked for %q", resolver.asked)
	}
}

// everywhere is a resolver that has the same texts at every name.
type everywhere struct {
	mail.Resolver
	texts []string
	n     int
}

func (e *everywhere) TXT(context.Context, string) (mail.Answer[string], error) {
	e.n++
	return mail.Answer[string]{Records: e.texts}, nil
}

func (e *everywhere) CNAME(context.Context, string) (mail.Answer[string], error) {
	e.n++
	return mail.Answer[string]{}, errors.New("a fault")
}

func TestHostileAnswersAndNamesCostABoundedNumberOfLookUps(t *testing.T) {
	m := Message{From: domains(t, "1.2.3.4.5.6.7.8.9.example.com", "a.b.c.d.e.f.g.h.i.example.com", "example.com", "x.y.example.com")}
	for i := range 1000 {
		name := strings.ReplaceAll(fmt.Sprintf("%d.a%[1]d.b%[1]d.c%[1]d.d%[1]d.e%[1]d.f%[1]d.g%[1]d.example.com", i), " ", "")
		m.DKIM = append(m.DKIM, Identifier{domain(t, name), Authenticated})
	}
	many := slices.Repeat([]string{"v=spf1 -all", "x"}, 5000)
	for about, texts := range map[string][]string{
		"a record at every name":       {"v=DMARC1; p=reject; np=none"},
		"psd=y at every name":          {"v=DMARC1; p=reject; psd=y"},
		"psd=n at every name":          {"v=DMARC1; p=reject; psd=n"},
		"nothing at any name":          nil,
		"ten thousand texts":           append(many, "v=DMARC1; p=reject"),
		"ten thousand records":         slices.Repeat([]string{"v=DMARC1; p=none"}, 10_000),
		"a huge text":                  {"v=DMARC1; p=reject;" + strings.Repeat("a=b;", 100_000)},
		"a huge record that is one":    {"v=DMARC1; p=reject;" + strings.Repeat("p=none;", 2000)},
		"a text of nothing but spaces": {"v" + strings.Repeat(" ", 60_000)},
	} {
		resolver := &everywhere{texts: texts}
		got := Evaluate(context.Background(), resolver, TreeWalk, m)
		if limit := maxLookUps + MaxAuthors*(MaxQueries+1) + MaxQueries; resolver.n > limit {
			t.Errorf("%s: %d look-ups, the limit is %d", about, resolver.n, limit)
		}
		if len(got.DKIM) > MaxIdentifiers || got.Status == PermError {
			t.Errorf("%s: %d identifiers, %s", about, len(got.DKIM), got.Status)
		}
	}
}
