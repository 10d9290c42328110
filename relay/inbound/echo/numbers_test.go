package echo

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/publicsuffix"

	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/attribution"
	"anechoic/standard/authres"
)

var update = flag.Bool("update", false, "write the golden files anew")

const page = "../../../docs/echo.md"

// The numbers of docs/echo.md: what becomes of the mail of honest organisations of
// many shapes, and of attacks.
func TestNumbers(t *testing.T) {
	var b strings.Builder
	fmt.Fprintf(&b, "%-70s %8s %6s %8s %8s %6s\n", "mail of honest organisations", "messages", "pass", "neutral", "suspect", "first")
	attacks := false
	for _, p := range populations() {
		if p.attack && !attacks {
			attacks = true
			fmt.Fprintf(&b, "\n%-70s %8s %6s %8s %8s %6s\n", "attacks", "messages", "pass", "neutral", "suspect", "first")
		}
		c := p.run(t)
		first := "-"
		if c.first > 0 {
			first = fmt.Sprint(c.first)
		}
		fmt.Fprintf(&b, "%-70s %8d %6d %8d %8d %6s\n", p.name, c.messages, c.verdicts[Pass], c.verdicts[Neutral], c.verdicts[Suspect], first)
		if p.attack {
			for _, id := range c.learned {
				if id != tenant(1, "").id {
					t.Errorf("%s: tenant %s was learned", p.name, id)
				}
			}
		}
	}
	golden(t, "numbers.txt", b.String())
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(text, []byte(b.String())) {
		t.Errorf("%s does not have the numbers of testdata/numbers.txt", page)
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	path := filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != got {
		t.Errorf("%s is not what came out (look, then -update):\n%s", path, got)
	}
}

// Every header of the suites that bears a provider's stamps, of messages inside of
// messages too, judged as if its signatures verified, or SPF passed where there are
// none: none is suspect, though nothing was learned, whoever the peer. What if the
// signatures did not verify and SPF passed all the same is shown beside it.
func TestNoRealMessageIsSuspect(t *testing.T) {
	var b strings.Builder
	judged := 0
	for _, file := range stampedFiles(t) {
		text, err := os.ReadFile(filepath.Join(suites(t), file))
		if err != nil {
			t.Fatal(err)
		}
		for i, o := range stampedHeaders(text) {
			fmt.Fprintf(&b, "%s, header %d\n", file, i+1)
			if isAnonymised(o) {
				fmt.Fprintln(&b, "  cannot pass DMARC: whoever collected it replaced the addresses")
				continue
			}
			judged++
			for _, peer := range []Peer{ProviderPeer, OtherPeer} {
				o.Peer = peer
				v := Judge(Rule{}, Profile{}, o)
				bySPF := o
				bySPF.Signatures = nil
				w := Judge(Rule{}, Profile{}, bySPF)
				fmt.Fprintf(&b, "  %-16s %s %d [%s]; by SPF alone %s %d\n", map[Peer]string{ProviderPeer: "straight", OtherPeer: "behind a relay"}[peer], v.Echo, v.Score, v.Codes(), w.Echo, w.Score)
				if v.Echo == Suspect {
					t.Errorf("%s: %+v", file, v)
				}
			}
		}
	}
	if judged < 16 {
		t.Errorf("only %d headers were judged: the search is broken", judged)
	}
	fmt.Fprintf(&b, "%d headers judged\n", judged)
	golden(t, "suites.txt", b.String())
}

// isAnonymised says that none of a header's signatures is of its From: whoever made
// the collection has replaced the addresses.
func isAnonymised(o Observation) bool {
	return len(o.Signatures) > 0 && !slices.ContainsFunc(o.Signatures, func(s Signature) bool { return o.aligned(s.Domain) })
}

// suites is the folder of test data of others.
func suites(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("ANECHOIC_SUITES")
	if dir == "" {
		dir = "../../../../shared/suites"
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skip("the test data of others is not here; set ANECHOIC_SUITES to its folder")
	}
	return dir
}

// stampedFiles are the messages of the suites in which a stamp stands somewhere.
func stampedFiles(t *testing.T) (names []string) {
	t.Helper()
	root := suites(t)
	for _, part := range []string{"real/m365", "real/sisimai", "mime", "dkim", "arc", "reports", "attacks"} {
		err := filepath.WalkDir(filepath.Join(root, part), func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := os.ReadFile(path)
			lower := bytes.ToLower(text)
			if err == nil && (bytes.Contains(lower, []byte("\nx-originatororg:")) || bytes.Contains(lower, []byte("\nx-ms-exchange-crosstenant-id:"))) {
				relative, _ := filepath.Rel(root, path)
				names = append(names, filepath.ToSlash(relative))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return names
}

// stampedHeaders finds the headers with stamps in a message and in what it encloses.
func stampedHeaders(text []byte) (found []Observation) {
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	for block := range bytes.SplitSeq(text, []byte("\n\n")) {
		lines := bytes.ReplaceAll(append(bytes.Trim(block, "\n"), '\n'), []byte("\n"), []byte("\r\n"))
		h, err := mail.ParseHeader(lines, mail.HeaderLimits{})
		if err != nil {
			continue
		}
		stamps := Read(attribution.ReadHeader(new(org.Directory), h), h)
		from, refusal := mail.ReadOriginators(h)
		if refusal != nil || !stamps.Any {
			continue
		}
		found = append(found, asPassed(h, stamps, from.From.Address.Domain()))
	}
	return found
}

// asPassed is the observation of a header whose signatures and seals all verify.
func asPassed(h mail.Header, stamps Stamps, from mail.Domain) Observation {
	o := Observation{Time: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), From: from, Organisational: from, DMARC: true, SPF: true, Peer: ProviderPeer, Stamps: stamps}
	if d, err := publicsuffix.EffectiveTLDPlusOne(from.String()); err == nil {
		o.Organisational = domain(d)
	}
	for i, f := range h.All("DKIM-Signature") {
		for tag := range strings.SplitSeq(f.Value(), ";") {
			if d, is := strings.CutPrefix(strings.TrimSpace(tag), "d="); is {
				o.Signatures = append(o.Signatures, Signature{Domain: domain(d), Field: i})
			}
		}
	}
	for i, f := range h.All("ARC-Authentication-Results") {
		_, results, _ := strings.Cut(f.Value(), ";")
		r, err := authres.Parse([]byte(results))
		if a, ok := attribution.Attest(r); err == nil && ok {
			o.Seals = append(o.Seals, attribution.Sealed{Instance: i + 1, Intact: true, Attested: a})
		}
	}
	return o
}

// The page for users explains each code, with its points.
func TestEveryReasonIsExplained(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []Code{
		SignedAtProvider, OriginatorOfFrom, NamedByDNS, VouchedFor, ConsumerMailbox, LearnedTenant, GenuineForwarded, TenantUnstated,
		StampRepeated, ForeignTenant, UsualTenantsOther, EnteredFromOut, SPFAlone, AttestedFail, ManyStrangers,
	} {
		if !bytes.Contains(text, []byte("\n| `"+string(c)+"` | ")) {
			t.Errorf("%s does not explain %s", page, c)
		}
	}
	if !bytes.Contains(text, fmt.Appendf(nil, "From %d points on", DefaultSuspectAt)) {
		t.Errorf("%s names another limit than %d", page, DefaultSuspectAt)
	}
}
