package dmarc

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"anechoic/mail"
)

// The peers are asked about From domains of real mail, with records made up for
// them: authheaders and mailauth 4.13 find organisational domains by public
// suffixes, so we do too. Where they give another answer, differs must say why.

// peerCase is one question, as the peers' scripts read it.
type peerCase struct {
	From string              `json:"from"`
	SPF  string              `json:"spf"`  // the domain that passed; empty: none
	DKIM string              `json:"dkim"` // likewise
	Zone map[string][]string `json:"zone"` // TXT by name
	Org  string              `json:"org"`  // by our list
}

// peerAnswer is one answer.
type peerAnswer struct {
	Result, Policy, Org string
}

var fromDomainOf = regexp.MustCompile(`@([A-Za-z0-9.-]+)`)

// readDomains puts what stands behind "@" in From fields into found.
func readDomains(text []byte, found map[string]bool) {
	for line := range bytes.Lines(text[:min(len(text), 64<<10)]) {
		if len(line) < 5 || !strings.EqualFold(string(line[:5]), "from:") {
			continue
		}
		for _, match := range fromDomainOf.FindAllSubmatch(line, 4) {
			if d, err := mail.ParseDomain(string(match[1])); err == nil && strings.Contains(d.String(), ".") {
				found[d.String()] = true
			}
		}
	}
}

// realDomains is every domain in a From field of the suites' messages.
func realDomains(t *testing.T) []string {
	t.Helper()
	found := map[string]bool{}
	err := filepath.WalkDir(shared(t, "ANECHOIC_SUITES", "suites"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		readDomains(b, found)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for name := range found {
		list = append(list, name)
	}
	slices.Sort(list)
	if len(list) < 500 {
		t.Fatalf("only %d From domains in the suites", len(list))
	}
	return list
}

// madeUp is a question about a From domain, always the same one.
func madeUp(t *testing.T, from string) peerCase {
	h := fnv.New64a()
	h.Write([]byte(from))
	r := rand.New(rand.NewPCG(h.Sum64(), 1))
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	c := peerCase{From: from, Zone: map[string][]string{}, Org: PublicSuffix.registered(domain(t, from)).String()}
	record := func() []string {
		txt := pick("v=DMARC1; ", "v=DMARC1;", "v=DMARC1 ; ", "v=DMARC1; ", "v=DMARC1;", "v=DMARC1; ", "v = DMARC1 ; ")
		txt += pick("p=none", "p=quarantine", "p=reject", "p=reject", "p=Reject", "rua=mailto:a@b.example", "adkim=r")
		txt += pick("", "", "; sp=none", "; sp=reject", "; sp=quarantine") + pick("", "; adkim=s", "; adkim=r") + pick("", "; aspf=s", "; aspf=r")
		txt += pick("", "", "; pct=0", "; rua=mailto:x@example.net", "; unknown=x", ";")
		return [][]string{{txt}, {txt}, {txt}, {"v=spf1 -all", txt}, {txt, txt}, {"some text"}}[r.IntN(6)]
	}
	if r.IntN(2) == 0 {
		c.Zone["_dmarc."+from] = record()
	}
	if r.IntN(4) > 0 {
		c.Zone["_dmarc."+c.Org] = record()
	}
	around := func() string {
		return pick("", from, c.Org, "sub."+from, "other."+c.Org, "elsewhere.example", "x"+c.Org)
	}
	c.SPF, c.DKIM = around(), around()
	return c
}

// ours is our answer to the question.
func (c peerCase) ours(t *testing.T) Result {
	m := Message{From: domains(t, c.From)}
	if c.SPF != "" {
		m.SPF = Identifier{domain(t, c.SPF), Authenticated}
	}
	if c.DKIM != "" {
		m.DKIM = []Identifier{{domain(t, c.DKIM), Authenticated}}
	}
	return Evaluate(context.Background(), plain{texts: c.Zone}, PublicSuffix, m)
}

// first is the first DMARC record at a name, and how many there are.
func (c peerCase) first(name string) (r Record, n int) {
	for _, txt := range c.Zone["_dmarc."+name] {
		if parsed, err := Parse(txt); err == nil {
			if n++; n == 1 {
				r = parsed
			}
		}
	}
	return r, n
}

func (c peerCase) spaced() bool {
	return strings.Contains(fmt.Sprint(c.Zone), "v = DMARC1")
}

// askPeer runs a script that reads the cases from its input and prints one
// answer each.
func askPeer(t *testing.T, cases []peerCase, name string, args ...string) []peerAnswer {
	t.Helper()
	in, err := json.Marshal(cases)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(name, args...)
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, stderr.String())
	}
	var answers []peerAnswer
	decode(t, out, &answers)
	if len(answers) != len(cases) {
		t.Fatalf("%d answers to %d questions", len(answers), len(cases))
	}
	return answers
}

// compare holds the peer's answers against ours.
func compare(t *testing.T, cases []peerCase, answers []peerAnswer, differs func(peerCase, Result, peerAnswer) string) {
	t.Helper()
	why, same := map[string]int{}, 0
	for i, c := range cases {
		r, theirs := c.ours(t), answers[i]
		policy := r.Policy.String()
		if r.Status.String() == theirs.Result && (r.Status == None || strings.EqualFold(strings.TrimSpace(theirs.Policy), policy)) {
			same++
			continue
		}
		if reason := differs(c, r, theirs); reason != "" {
			why[reason]++
			continue
		}
		t.Errorf("%+v: %s %s %v, the peer says %+v", c, r.Status, policy, r.Err, theirs)
	}
	t.Logf("%d cases, %d alike; %v", len(cases), same, why)
	if same*2 < len(cases) {
		t.Errorf("only %d of %d answers are alike", same, len(cases))
	}
}

// authheadersScript asks Debian's python3-authheaders. Its way to cut a domain
// out of an address stops at a hyphen, and it reads its list of public suffixes
// for each question: both are replaced.
const authheadersScript = `
import json, sys
import authheaders, authheaders.dmarc_lookup as lookup
from authres import SPFAuthenticationResult, DKIMAuthenticationResult
from publicsuffix2 import PublicSuffixList
psl = PublicSuffixList(open(lookup.get_suffix_list_file_name()))
org = lambda domain: psl.get_public_suffix(domain)
authheaders.get_org_domain = lookup.get_org_domain = org
authheaders.get_domain_part = lambda a: a.rsplit('@', 1)[-1].lower()
out = []
for c in json.load(sys.stdin):
    spf = SPFAuthenticationResult(result='pass', smtp_mailfrom='a@' + c['spf']) if c['spf'] else None
    dkim = DKIMAuthenticationResult(result='pass', header_d=c['dkim']) if c['dkim'] else None
    def dns(name):
        texts = [x for x in c['zone'].get(name, []) if x.startswith('v')] or [None]
        return texts[-1]
    result, comment, domain, policy = authheaders.dmarc_per_from(c['from'], spf, dkim, dns)
    out.append({'Result': result, 'Policy': policy, 'Org': org(c['from'])})
print(json.dumps(out))
`

func TestAuthheadersAgrees(t *testing.T) {
	const python = "/usr/bin/python3"
	if err := exec.Command(python, "-c", "import authheaders, authres, publicsuffix2").Run(); err != nil {
		t.Skip("python3-authheaders is missing: apt-get install python3-authheaders")
	}
	var cases []peerCase
	for _, from := range realDomains(t) {
		cases = append(cases, madeUp(t, from))
	}
	compare(t, cases, askPeer(t, cases, python, "-c", authheadersScript), func(c peerCase, r Result, theirs peerAnswer) string {
		own, n := c.first(c.From)
		above, m := c.first(c.Org)
		switch {
		case theirs.Org != c.Org:
			return "its list of public suffixes is another"
		case n > 1 || m > 1:
			return "its resolver gives one record only"
		case c.spaced():
			return "it does not take white space around ="
		case r.Record.Policy == NoPolicy && !r.Domain.IsZero():
			return "without p= it gives none (RFC 7489 section 6.6.3); RFC 9989 counts rua= as p=none"
		case own.Policy == NoPolicy && above.Policy != NoPolicy && n > 0:
			return "it goes on to the organisation's record"
		case r.Status.String() == theirs.Result && c.From == r.Domain.String() && own.SubdomainPolicy != NoPolicy && theirs.Policy == own.SubdomainPolicy.String():
			return "it takes sp= for the domain of the record itself"
		}
		return ""
	})
}

// mailauthScript asks mailauth, in the folder of the verifiers.
const mailauthScript = `
const { createRequire } = require('node:module');
const { dmarc } = createRequire(process.argv[1] + '/')('mailauth/lib/dmarc');
const tldts = createRequire(process.argv[1] + '/')('tldts');
(async () => {
    const out = [];
    for (const c of JSON.parse(require('node:fs').readFileSync(0))) {
        const resolver = async name => {
            if (!c.zone[name]) throw Object.assign(new Error(name), { code: 'ENOTFOUND' });
            return c.zone[name].map(x => [x]);
        };
        const list = d => d ? [{ domain: d }] : [];
        const r = await dmarc({ headerFrom: 'a@' + c.from, spfDomains: list(c.spf), dkimDomains: list(c.dkim), resolver });
        out.push({ Result: r.status.result, Policy: r.policy || '', Org: tldts.getDomain(c.from, { allowPrivateDomains: true }) || c.from });
    }
    console.log(JSON.stringify(out));
})();
`

func TestMailauthAgrees(t *testing.T) {
	dir := shared(t, "ANECHOIC_VERIFIERS", "verifiers")
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "mailauth")); err != nil {
		t.Skipf("mailauth is missing: copy %s, run npm install there and set ANECHOIC_VERIFIERS to the copy", dir)
	}
	var cases []peerCase
	for _, from := range realDomains(t) {
		cases = append(cases, madeUp(t, from))
	}
	compare(t, cases, askPeer(t, cases, "node", "-e", mailauthScript, dir), func(c peerCase, r Result, theirs peerAnswer) string {
		_, n := c.first(c.From)
		_, m := c.first(c.Org)
		switch {
		case theirs.Org != c.Org:
			return "its list of public suffixes is another"
		case c.spaced():
			return "it does not take white space around ="
		case n > 1 && m > 0:
			return "with two records it goes on to the organisation's"
		case r.Record.Policy == NoPolicy && !r.Domain.IsZero():
			return "without p= it has no policy; RFC 9989 counts rua= as p=none, and does not apply the rest"
		case theirs.Result == "pass" && (r.Record.StrictDKIM || r.Record.StrictSPF):
			return "it takes strict alignment for relaxed (version 4.13.3)"
		}
		return ""
	})
}

// TestMethodsAgreeWhereRecordsStandAsBefore: with records at the From domain and
// at the registered domain alone, the tree walk gives what RFC 7489 gave, but
// for a domain with two records of its own and for one whose registered domain
// has no record that counts.
func TestMethodsAgreeWhereRecordsStandAsBefore(t *testing.T) {
	for _, from := range realDomains(t) {
		c := madeUp(t, from)
		if _, n := c.first(c.Org); n != 1 {
			continue
		}
		if strings.HasSuffix(c.DKIM, "x"+c.Org) || strings.HasSuffix(c.SPF, "x"+c.Org) {
			continue
		}
		before := c.ours(t)
		m := Message{From: domains(t, from)}
		for _, name := range []string{c.SPF, c.DKIM} {
			if name != "" {
				m.DKIM = append(m.DKIM, Identifier{domain(t, name), Authenticated})
			}
		}
		if before.Record.StrictDKIM != before.Record.StrictSPF {
			continue
		}
		now := Evaluate(context.Background(), plain{texts: c.Zone}, TreeWalk, m)
		if now.Status != before.Status || now.Policy != before.Policy || now.OrganisationalDomain != before.OrganisationalDomain {
			t.Errorf("%+v: %s %s %s by suffixes, %s %s %s by the walk", c, before.Status, before.Policy, before.OrganisationalDomain, now.Status, now.Policy, now.OrganisationalDomain)
		}
	}
}
