package acceptance

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"anechoic/control/config"
	"anechoic/lab"
	"anechoic/ledger"
	"anechoic/mail"
)

// row is one line of the acceptance matrix.
type row struct {
	id, scenario string
	pending      string // what is still missing; empty: done
	variants     []variant
}

// variant is one way to try a row: a letter with what must become of it, or a
// test of its own.
type variant struct {
	name    string
	letter  letter
	refusal *mail.Refusal // nil: it is accepted
	at      string        // stage of the refusal; empty: atData
	signed  []string      // d= of the signatures it leaves with
	detail  string        // must stand in the detail of the refusal's fact
	claimed string        // organisation that the fact says was claimed
	run     func(t *testing.T, r *relay)
}

// no is a letter that is refused at the end of its data.
func no(name string, refusal *mail.Refusal, l letter) variant {
	return variant{name: name, letter: l, refusal: refusal}
}

// early is a letter that is refused at a stage before its data.
func early(at, name string, refusal *mail.Refusal, l letter) variant {
	return variant{name: name, letter: l, refusal: refusal, at: at}
}

// yes is a letter that is accepted, and arrives with exactly these signatures.
func yes(name string, l letter, signed ...string) variant {
	return variant{name: name, letter: l, signed: signed}
}

// does is a test of its own.
func does(name string, run func(t *testing.T, r *relay)) variant {
	return variant{name: name, run: run}
}

// What acme's mail is signed with: RSA and Ed25519.
const acmeTest = "acme.test"

// sent is a variant's outcome, to be held against ledger and receiver.
type sent struct {
	variant
	answer reply
}

// matrix runs rows against one relay.
type matrix struct {
	*relay
	markers  int
	accepted map[string]bool // message ids that must be at the receiver, and no others
}

// rows is the whole matrix.
func rows() []row {
	return slices.Concat(tenantRows(), googleRows(), originRows(), organisationRows(), headerRows(), receptionRows(), bdatRows(), proxyRows(), configurationRows(), failureRows(), bounceRows(), watchRows(), laterRows())
}

func TestMatrix(t *testing.T) {
	m := &matrix{relay: newRelay(t, registry(), publishMicrosoftKeys), accepted: map[string]bool{}}
	all := rows()
	slices.SortFunc(all, func(a, b row) int { return strings.Compare(a.id, b.id) })
	done, pending, variants := 0, 0, 0
	for i, row := range all {
		if want := fmt.Sprintf("A%02d", i+1); row.id != want {
			t.Fatalf("row %d is %s: %s is missing or there twice", i+1, row.id, want)
		}
		if row.pending == "" {
			done++
		} else {
			pending++
		}
		if row.pending == "" && len(row.variants) == 0 {
			t.Errorf("%s has no variants and is not pending", row.id)
		}
		variants += len(row.variants)
		t.Run(row.id+" "+row.scenario, func(t *testing.T) { m.row(t, row) })
	}
	t.Run("nothing else arrived", m.nothingElse)
	t.Run("no secret is anywhere", func(t *testing.T) { noSecrets(t, m.relay) })
	t.Run("the ledger verifies", func(t *testing.T) {
		if verified, err := m.api.Verify(t.Context(), nil); err != nil || !verified.OK {
			t.Errorf("%+v, %v", verified, err)
		}
	})
	t.Logf("acceptance matrix: %d rows done, %d pending, %d variants", done, pending, variants)
}

// row runs the variants, then holds ledger and receiver against the replies.
func (m *matrix) row(t *testing.T, row row) {
	if row.pending != "" {
		t.Logf("pending: %s", row.pending)
	}
	var outcomes []sent
	for _, v := range row.variants {
		t.Run(v.name, func(t *testing.T) {
			if v.run != nil {
				v.run(t, m.relay)
				return
			}
			if answer, ok := m.try(t, v); ok {
				outcomes = append(outcomes, sent{v, answer})
			}
		})
	}
	if len(outcomes) == 0 {
		return
	}
	m.marker(t)
	facts := m.facts(t, url.Values{})
	for _, s := range outcomes {
		t.Run(s.name+", afterwards", func(t *testing.T) {
			if s.refusal != nil {
				m.refusedEverywhere(t, s, facts)
			} else {
				m.deliveredWhole(t, s, facts)
			}
		})
	}
}

// try sends a letter and judges the reply.
func (m *matrix) try(t *testing.T, v variant) (reply, bool) {
	stage, answer := m.send(t, v.letter)
	if v.refusal == nil {
		if stage != atData || answer.code != 250 {
			t.Errorf("not accepted: at %s: %s", stage, answer)
			return answer, false
		}
		m.accepted[messageID(v.letter.data)] = true
		return answer, true
	}
	want := v.at
	if want == "" {
		want = atData
	}
	if stage != want || answer.code != v.refusal.Code() || answer.enhanced != v.refusal.Enhanced() || answer.reason != v.refusal.Reason() {
		t.Errorf("at %s: %s\nwant at %s: %s", stage, answer, want, v.refusal)
		return answer, false
	}
	return answer, true
}

var messageIDForm = regexp.MustCompile(`(?im)^Message-ID: (<[^>\r\n]*>)\r$`)

// messageID is how a message is known again; empty if it has none.
func messageID(data string) string {
	if found := messageIDForm.FindStringSubmatch(data); found != nil {
		return found[1]
	}
	return ""
}

// marker sends an honest message and waits until it has arrived: what was taken
// before it has been on its way as long, and refusals before it are in the
// ledger.
func (m *matrix) marker(t *testing.T) {
	t.Helper()
	l := mailFromUser("app@globex", "marker@globex.test")
	if stage, answer := m.send(t, l); answer.code != 250 {
		t.Fatalf("the marker: at %s: %s", stage, answer)
	}
	m.markers++
	m.accepted[messageID(l.data)] = true
	m.await(t, messageID(l.data))
}

// refusedEverywhere: the ledger has the refusal under the id of the reply, and
// the receiver has nothing.
func (m *matrix) refusedEverywhere(t *testing.T, s sent, facts map[mail.ID][]ledger.Fact) {
	i := slices.IndexFunc(facts[s.answer.id], func(f ledger.Fact) bool {
		return f.Event == ledger.Refused && f.Reason == s.refusal.Reason()
	})
	if i < 0 {
		t.Fatalf("the ledger has no refusal %s with id %s: %v", s.refusal.Reason(), s.answer.id, facts[s.answer.id])
	}
	f := facts[s.answer.id][i]
	if !strings.Contains(f.Detail, s.detail) {
		t.Errorf("the detail is %q, without %q", f.Detail, s.detail)
	}
	if id := messageID(s.letter.data); !f.Print.IsZero() && f.MessageID != id && len(id) <= ledger.MaxMessageID {
		t.Errorf("its Message-ID is %q in the ledger, and %q in the message", f.MessageID, id)
	}
	if s.claimed != "" && f.ClaimedOrg != s.claimed {
		t.Errorf("claimed_org is %q, not %q", f.ClaimedOrg, s.claimed)
	}
	if slices.ContainsFunc(facts[s.answer.id], func(f ledger.Fact) bool { return f.Event == ledger.Accepted }) {
		t.Errorf("the ledger has it accepted too")
	}
	if id := messageID(s.letter.data); id != "" {
		if j, arrived := m.receiver.Judgement(id); arrived {
			t.Errorf("it arrived, signed by %v:\n%s", j.SignedBy, j.Data)
		}
	}
}

// deliveredWhole: what arrived is what was sent without the evidence, with our
// fields before it; its signatures are the organisation's, and DMARC passes.
func (m *matrix) deliveredWhole(t *testing.T, s sent, facts map[mail.ID][]ledger.Fact) {
	j := m.await(t, messageID(s.letter.data))
	var signed []string
	for _, d := range j.SignedBy {
		signed = append(signed, d.String())
	}
	slices.Sort(signed)
	want := slices.Sorted(slices.Values(s.signed))
	if !slices.Equal(signed, want) {
		t.Errorf("signed by %v, want %v:\n%s", signed, want, j.Data)
	}
	if j.Aligned != (len(want) > 0) {
		t.Errorf("DMARC passes: %v", j.Aligned)
	}
	if len(j.Leaked) > 0 {
		t.Errorf("evidence left the relay: %v", j.Leaked)
	}
	ours := unchanged(t, s.letter.data, string(j.Data))
	checkOurs(t, ours)
	if j.MailFrom != s.letter.from {
		t.Errorf("MAIL FROM is %q, was %q", j.MailFrom, s.letter.from)
	}
	id := acceptedID(s.answer)
	if !slices.ContainsFunc(facts[id], func(f ledger.Fact) bool {
		return f.Event == ledger.Accepted && f.Identity == ledger.Proven && f.Org != "" && f.MessageID == messageID(s.letter.data) && !f.Print.IsZero()
	}) {
		t.Errorf("the ledger has no acceptance with id %s: %v", id, facts[id])
	}
}

// acceptedID is the id in a 250.
func acceptedID(r reply) mail.ID {
	_, id, _ := strings.Cut(strings.TrimSpace(r.text), "id=")
	return mail.ID(id)
}

// evidence are the fields that never leave.
var evidence = regexp.MustCompile(`(?i)^(X-OriginatorOrg|X-MS-Exchange-Organization-[^:]*|X-MS-Exchange-CrossTenant-[^:]*|X-Anechoic-[^:]*|X-[a-z-]+-Relay-Key)$`)

// withoutEvidence is a message as it should leave, but for our fields.
func withoutEvidence(data string) string {
	head, body, _ := strings.Cut(data, "\r\n\r\n")
	var kept strings.Builder
	dropping := false
	for line := range strings.SplitSeq(head, "\r\n") {
		if line[0] != ' ' && line[0] != '\t' {
			name, _, _ := strings.Cut(line, ":")
			dropping = evidence.MatchString(name)
		}
		if !dropping {
			kept.WriteString(line + "\r\n")
		}
	}
	return kept.String() + "\r\n" + body
}

// unchanged wants the message as it was, and gives what stands before it.
func unchanged(t *testing.T, was, is string) (ours string) {
	t.Helper()
	ours, ok := strings.CutSuffix(is, withoutEvidence(was))
	if !ok {
		t.Errorf("the message changed on its way.\nwas:\n%q\nis:\n%q", withoutEvidence(was), is)
	}
	return ours
}

// checkOurs wants one Received and DKIM-Signature fields, and nothing else.
func checkOurs(t *testing.T, ours string) {
	t.Helper()
	header, err := mail.ParseHeader([]byte(ours), mail.HeaderLimits{})
	if err != nil {
		t.Errorf("our fields: %v", err)
		return
	}
	for i, f := range header.Fields {
		switch {
		case i == 0 && f.Is("Received"), i > 0 && f.Is("DKIM-Signature"):
		default:
			t.Errorf("field %d of ours is %s", i+1, f.Name())
		}
		for _, tag := range []string{"l=", "z="} {
			if f.Is("DKIM-Signature") && strings.Contains(f.Value(), "; "+tag) {
				t.Errorf("a signature with %s", tag)
			}
		}
	}
}

// nothingElse: the receiver has what was accepted and bounces, and nothing else,
// each once.
func (m *matrix) nothingElse(t *testing.T) {
	m.marker(t)
	for id := range m.accepted {
		if id != "" {
			m.await(t, id)
		}
	}
	for _, j := range m.receiver.Judgements() {
		if !m.accepted[j.MessageID] && !expected[j.MessageID] && !isBounce(j) {
			t.Errorf("nobody expected %s:\n%s", j.MessageID, j.Data)
		}
	}
	if n := m.receiver.Repeated(); n > 0 {
		t.Errorf("%d messages came twice", n)
	}
}

func isBounce(j lab.Judgement) bool {
	return j.MailFrom == "" && j.From.String() == "relay.anechoic.test"
}

// noSecrets looks for every secret in all that the relay gave away.
func noSecrets(t *testing.T, m *relay) {
	var facts strings.Builder
	for _, list := range m.facts(t, url.Values{}) {
		for _, f := range list {
			text, err := json.Marshal(f)
			if err != nil {
				t.Fatal(err)
			}
			facts.Write(text)
		}
	}
	given := map[string]string{"the log": m.log.String(), "the ledger": facts.String(), "the metrics": m.metricsPage(t), "replies": m.said.String()}
	for _, j := range m.receiver.Judgements() {
		if !carriers[j.MessageID] {
			given["message "+j.MessageID] = string(j.Data)
		}
	}
	if len(given["the log"]) < 1000 || len(given["the ledger"]) < 10000 || len(given) < 50 {
		t.Fatalf("too little to look through: %d octets of log, %d of ledger, %d texts", len(given["the log"]), len(given["the ledger"]), len(given))
	}
	for where, text := range given {
		searched(t, where, text)
	}
}

// searched wants no secret in a text.
func searched(t *testing.T, where, text string) {
	t.Helper()
	for name, secret := range secrets() {
		if strings.Contains(text, secret) {
			t.Errorf("%s is in %s", name, where)
		}
	}
}

// noSecretsInAnswers asks for all that can be asked for.
func noSecretsInAnswers(t *testing.T, r *relay) {
	status, err := r.api.Status(t.Context(), "")
	keys, errKeys := r.api.Keys(t.Context(), "", "")
	queue, errQueue := r.api.Queue(t.Context(), url.Values{})
	if err := errors.Join(err, errKeys, errQueue); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal([]any{status, keys, queue})
	if err != nil || len(text) < 1000 {
		t.Fatalf("%d octets, %v", len(text), err)
	}
	searched(t, "an answer", string(text))
}

// noSecretsInProblems: what is wrong with a secret is said without the secret.
func noSecretsInProblems(t *testing.T, r *relay) {
	for what, change := range map[string]func(string) string{
		"a secret instead of its hash":   edit(digest(acmeSecret), acmeSecret),
		"a password instead of its hash": edit(hashes()["app@acme"], passwords["app@acme"]),
		"half a hash":                    edit(hashes()["app@acme"], hashes()["app@acme"][:20]),
	} {
		file := filepath.Join(t.TempDir(), "relay.toml")
		err := errors.Join(os.WriteFile(file, []byte(nodeFor(r)), 0o600), os.WriteFile(filepath.Join(filepath.Dir(file), "registry.toml"), []byte(change(registry())), 0o600))
		if err != nil {
			t.Fatal(err)
		}
		_, directory, problems, _ := config.Validate(file)
		if directory != nil || len(problems) == 0 {
			t.Fatalf("%s: it loads", what)
		}
		searched(t, "the problems of "+what, fmt.Sprint(problems))
	}
}

// noSecretsInFiles: nothing in the data directory holds a secret as it is. Bodies
// of messages are the senders' and are stored as they are.
func noSecretsInFiles(t *testing.T, r *relay) {
	files := 0
	err := filepath.WalkDir(filepath.Join(r.dir, "data"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) { // the store works on
			return nil
		}
		files++
		for name, secret := range secrets() {
			if name != "initech's secret" && strings.Contains(string(text), secret) { // a body of A53 holds that one
				t.Errorf("%s is in %s", name, path)
			}
		}
		return err
	})
	if err != nil || files < 5 {
		t.Errorf("%d files, %v", files, err)
	}
}

// carriers are messages whose own bodies hold a secret, which is theirs to hold.
var carriers = map[string]bool{}

// secrets gives what must not be seen, in each form it was used in.
func secrets() map[string]string {
	list := map[string]string{"acme's secret": acmeSecret, "acme's next secret": acmeNextSecret, "initech's secret": initechSecret,
		"the device's secret": deviceSecret, "hooli's secret": hooliSecret, "wonka's secret": wonkaSecret, "oompa's secret": oompaSecret}
	for user, password := range passwords {
		list["the password of "+user] = password
		list["the AUTH response of "+user] = plainResponse(user, password)
	}
	for user, hash := range hashes() {
		list["the password hash of "+user] = hash
	}
	for name, key := range keys() {
		for i, line := range strings.Split(string(keyPEM(key)), "\n") {
			if len(line) > 20 && !strings.Contains(line, "PRIVATE KEY") {
				list[fmt.Sprintf("line %d of key %s", i, name)] = line
			}
		}
	}
	return list
}
