package acceptance

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"anechoic/lab"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/attribution"
	"anechoic/relay/policy"
)

// The verdict is the same for every order of the fields, but for Received, whose
// order says which way a message came; and for every folding. That every header
// field is read the same however it is folded is a property test of package mail.

// verdictOf is what attribution and policy make of a letter, in one line.
func verdictOf(t *rapid.T, dir *org.Directory, l letter, head string) string {
	header, err := mail.ParseHeader([]byte(head+"\r\n"), mail.HeaderLimits{})
	if err != nil {
		return "header: " + err.Error()
	}
	originators, refusal := mail.ReadOriginators(header)
	if refusal != nil {
		return string(refusal.Reason())
	}
	peer := netip.MustParseAddr(l.peer)
	ev := attribution.Evidence{Peer: peer, TLS: !l.plain, Username: l.user, From: originators.From.Address.Domain(), Header: attribution.ReadHeader(dir, header)}
	if dir.Providers().Microsoft365.Contains(peer) {
		ev.PeerName = attribution.PeerNameConfirmed
	}
	if dir.Providers().Google.Contains(peer) { // that signatures hold in any order of the other fields is DKIM's matter
		ev.Signatures = []attribution.Signature{{Domain: domain("wonka.test"), Selector: "google", Signed: noon}}
	}
	proof, refusal := attribution.Attribute(dir, &ev, noon)
	if refusal != nil {
		return string(refusal.Reason())
	}
	from, err := mail.ParseAddress(l.from)
	if err != nil {
		t.Fatal(err)
	}
	told := fmt.Sprintf("%s %s %s %v", proof.Organisation(), proof.Source(), proof.Origin(), proof.Methods().Names())
	warrant, refusal := policy.Permit(dir, proof, &policy.Message{MailFrom: from, Originators: originators, Report: mail.IsAutomatic(header)}, stands)
	if refusal != nil {
		return told + ": " + string(refusal.Reason())
	}
	return told + ": signed as " + warrant.SignAs().String()
}

// matrixDirectory is the registry of the matrix.
func matrixDirectory(t *testing.T) *org.Directory {
	t.Helper()
	reg, problems := org.ParseRegistry("registry.toml", []byte(registry()))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	prefixes := func(texts ...string) (list []netip.Prefix) {
		for _, s := range texts {
			list = append(list, netip.MustParsePrefix(s))
		}
		return list
	}
	providers := org.Providers{
		Microsoft365: org.Provider{Ranges: prefixes("40.92.0.0/15", "40.107.0.0/16"), Exclude: prefixes("40.95.0.0/16")},
		Google:       org.Provider{Ranges: prefixes("209.85.128.0/17")},
	}
	dir, problems, _ := org.Build(reg, providers, []netip.Addr{netip.MustParseAddr("127.0.0.1")}, 1, noon)
	if dir == nil {
		t.Fatal(problems)
	}
	return dir
}

// orderLetters are letters of every verdict.
func orderLetters() []letter {
	const ann = "Ann <ann@acme.test>"
	honest := mailFromMicrosoft(acme, ann)
	inside := "Received: from desk (desk [10.1.2.3]) by mail.acme.test; Sun, 22 Nov 2026 11:00:00 +0000"
	outside := "Received: from vps (vps [51.68.66.6]) by mail.acme.test; Sun, 22 Nov 2026 11:00:00 +0000"
	return []letter{
		honest, mailThrough(acme, lab.Hybrid, hybrid, ann), mailThrough(acme, lab.Hybrid, vps, ann), mailThrough(acme, lab.Forward, vps, ann),
		mailThrough(acme, lab.Hybrid, "127.0.0.1", ann), mailThrough(attacker, lab.BlindRelay, vps, ann), mailFromMicrosoft(consumer, ann),
		honest.topped("X-OriginatorOrg: evil.test"), honest.ended("X-MS-Exchange-CrossTenant-Id: " + attacker.GUID), honest.topped(acme.SecretName + ": guess"),
		honest.headless(acme.SecretName), honest.headless("X-OriginatorOrg"), honest.topped(initech.SecretName + ": " + initechSecret), honest.ended("Resent-From: ann@acme.test"),
		honest.topped("Sender: ceo@globex.test"), honest.topped("From: ceo@globex.test"), honest.topped("Resent-From: ann@acme.test", "Resent-From: ceo@globex.test"),
		mailFromUser("app@acme", ann), mailFromUser("app@acme", ann, "List-Id: <x.acme.test>"), mailFromUser("app@globex", ann), mailFromUser("app@acme", ann).topped(inside, inside, inside),
		mailFromUser("server@acme", ann).topped(inside), mailFromUser("server@acme", ann).topped(inside, outside), mailFromAddress(onprem, ann).topped(outside, inside), mailFromAddress(printer, ann),
		mailFromGoogleUnsigned(wonka, "willy@wonka.test"), mailFromGoogleUnsigned(wonka, "willy@wonka.test", "X-Forwarded-To: x@y.test"), mailFromGoogleUnsigned(oompa, "x@oompa.test"), mailFromNobody(vps, ann),
	}
}

// fieldsOf cuts a header into its fields, each with its last CRLF.
func fieldsOf(l letter) (fields []string) {
	head, _, _ := strings.Cut(l.data, "\r\n\r\n")
	for line := range strings.SplitAfterSeq(head+"\r\n", "\r\n") {
		switch {
		case line == "":
		case line[0] == ' ' || line[0] == '\t':
			fields[len(fields)-1] += line
		default:
			fields = append(fields, line)
		}
	}
	return fields
}

func isReceived(field string) bool { return strings.HasPrefix(field, "Received:") }

func TestNoOrderOfFieldsMatters(t *testing.T) {
	dir, letters := matrixDirectory(t), orderLetters()
	verdicts := map[string]bool{}
	rapid.Check(t, func(t *rapid.T) {
		l := rapid.SampledFrom(letters).Draw(t, "letter")
		fields := fieldsOf(l)
		want := verdictOf(t, dir, l, strings.Join(fields, ""))
		verdicts[want] = true
		var trace []string // stays in its order
		for _, f := range fields {
			if isReceived(f) {
				trace = append(trace, f)
			}
		}
		mixed := rapid.Permutation(fields).Draw(t, "order")
		for i, f := range mixed {
			if isReceived(f) {
				mixed[i], trace = trace[0], trace[1:]
			}
		}
		if got := verdictOf(t, dir, l, strings.Join(mixed, "")); got != want {
			t.Fatalf("%s; in another order %s", want, got)
		}
	})
	if len(verdicts) < 12 {
		t.Errorf("%d verdicts: the test shows nothing", len(verdicts))
	}
}

func TestNoFoldingMatters(t *testing.T) {
	dir, letters := matrixDirectory(t), orderLetters()
	folds := 0
	rapid.Check(t, func(t *rapid.T) {
		l := rapid.SampledFrom(letters).Draw(t, "letter")
		fields := fieldsOf(l)
		want := verdictOf(t, dir, l, strings.Join(fields, ""))
		folded := slices.Clone(fields)
		for i := range folded {
			folded[i] = refolded(t, folded[i], &folds)
		}
		if got := verdictOf(t, dir, l, strings.Join(folded, "")); got != want {
			t.Fatalf("%s; folded otherwise %s:\n%s", want, got, strings.Join(folded, ""))
		}
	})
	if folds < 100 {
		t.Errorf("%d folds: the test shows nothing", folds)
	}
}

// refolded folds a field at some of its spaces, as any server on the way may (RFC
// 5322 section 2.2.3), and writes its name in other case.
func refolded(t *rapid.T, field string, folds *int) string {
	name, value, _ := strings.Cut(strings.TrimSuffix(field, "\r\n"), ":")
	if rapid.Bool().Draw(t, "case") {
		name = strings.ToUpper(name)
	}
	value = strings.NewReplacer("\r\n ", " ", "\r\n\t", "\t").Replace(value)
	var b strings.Builder
	for i := range len(value) {
		if value[i] == ' ' && i+1 < len(value) && value[i+1] != ' ' && rapid.IntRange(0, 3).Draw(t, "fold") == 0 {
			b.WriteString("\r\n")
			*folds++
		}
		b.WriteByte(value[i])
	}
	return name + ":" + b.String() + "\r\n"
}

// TestAskedTwiceTheVerdictIsTheSame: nothing is remembered of what was asked
// before.
func TestAskedTwiceTheVerdictIsTheSame(t *testing.T) {
	dir := matrixDirectory(t)
	rapid.Check(t, func(t *rapid.T) {
		ev := evidenceOf(everybody()).Draw(t, "evidence")
		first, refusal := attribution.Attribute(dir, &ev, noon)
		second, again := attribution.Attribute(dir, &ev, noon.Add(time.Minute))
		if first != second || (refusal == nil) != (again == nil) {
			t.Fatalf("%+v, %v and %+v, %v", first, refusal, second, again)
		}
	})
}
