package corpus

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	netmail "net/mail"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"anechoic/mail"
)

// suiteFolders hold whole messages that other programs keep for their tests:
// MIME, signed and sealed mail, bounces of many systems, reports.
var suiteFolders = []string{"mime", "dkim", "arc", "real/sisimai", "real/m365", "reports"}

// A message of a suite is sent in two ways, and in two more if that is refused.
const (
	asItIs       = iota // its own author, whose domain is the tenant's too
	inChunks            // the same by BDAT
	ownAuthor           // with one honest From, no other originator, no stamps of others
	ownAuthorToo        // the same by BDAT
)

// TestMessagesOfOtherSuites sends each message of the suites through the running
// relay as the tenant's own mail. What becomes of each is in
// testdata/suites.golden: it passes unchanged, or why not. By DATA and by BDAT the
// same becomes of it, and where the original's author was the only thing wrong,
// the same message with an honest author passes.
func TestMessagesOfOtherSuites(t *testing.T) {
	originals := readSuites(t)
	var all, again []message
	for i, m := range originals {
		all = append(all, inWays(i, m, asItIs, inChunks)...)
	}
	r := start(t, domainsOf(append(all, message{text: withAuthor("")})))
	refused := r.sendAll(t, all)
	for i, m := range originals {
		if refused[formName(m, asItIs)] != "" {
			again = append(again, inWays(i, m, ownAuthor, ownAuthorToo)...)
		}
	}
	maps.Copy(refused, r.sendAll(t, again))
	all = append(all, again...)
	compareOutcomes(t, originals, refused)
	r.compareDelivered(t, all, refused)
	for _, m := range all {
		if j, arrived := r.receiver.Judgement(m.to); arrived {
			sameAuthor(t, m, j.Data)
		}
	}
	t.Logf("suites: %d messages, %d of %d passed unchanged", len(originals), len(all)-len(refused), len(all))
}

func formName(m message, way int) string { return fmt.Sprint(m.name, " ", way) }

// inWays gives the forms in which message number i is sent.
func inWays(i int, m message, ways ...int) (forms []message) {
	for _, way := range ways {
		form := message{name: formName(m, way), text: m.text, from: m.from, to: fmt.Sprintf("w%d-%04d@mailbox.example", way, i)}
		if way >= ownAuthor {
			form.text, form.from = withAuthor(m.text), "user@corpus.example"
		}
		if way == inChunks || way == ownAuthorToo {
			form.chunk = 1 + i*31%5000
		}
		forms = append(forms, form)
	}
	return forms
}

// withAuthor is a message of the tenant's own: the originators and what another
// tenant's provider wrote are taken off its header, and one author put on top.
func withAuthor(text string) string {
	return "From: A Person <user@corpus.example>\r\n" + without(text, func(name string) bool {
		return name == "from" || name == "sender" || strings.HasPrefix(name, "resent-") || isEvidence(name)
	})
}

// readSuites gives the messages in order of their names.
func readSuites(t *testing.T) (messages []message) {
	t.Helper()
	texts := map[string][]byte{}
	for _, folder := range suiteFolders {
		root := filepath.Join(suitesFolder(t), filepath.FromSlash(folder))
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			name, err := filepath.Rel(suitesFolder(t), path)
			content, errRead := os.ReadFile(path)
			if name = filepath.ToSlash(name); isMessage(name) {
				texts[name] = content
			} else if strings.HasPrefix(name, "arc/") && strings.HasSuffix(name, ".json") {
				maps.Copy(texts, messagesIn(name, content))
			}
			return errors.Join(err, errRead)
		})
		if err != nil {
			t.Skipf("the shared test data are not there: set ANECHOIC_SUITES to their folder (%v)", err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		m := message{name: name, text: asSent(texts[name]), from: "user@corpus.example"}
		if o, ok := originators(m.text); ok {
			m.from = o.From.Address.String()
		}
		messages = append(messages, m)
	}
	if len(messages) < 700 {
		t.Fatalf("only %d messages in %v", len(messages), suiteFolders)
	}
	return messages
}

// isMessage tells messages from what a suite says about them. The DKIM suites
// have some that end in .txt.
func isMessage(name string) bool {
	switch filepath.Ext(name) {
	case ".eml", ".raw", ".msg", ".mail":
		return true
	case ".txt":
		return strings.HasPrefix(name, "dkim/") && !strings.Contains(name, "LICENSE")
	}
	return strings.HasSuffix(name, "/sample_output_multipart")
}

// messagesIn gives the messages of a file of ARC cases, each text once.
func messagesIn(name string, content []byte) map[string][]byte {
	var groups []struct {
		Tests map[string]struct{ Message string }
	}
	found := map[string][]byte{}
	if json.Unmarshal(content, &groups) != nil {
		return found
	}
	seen := map[string]bool{}
	for i, g := range groups {
		for _, test := range slices.Sorted(maps.Keys(g.Tests)) {
			if text := g.Tests[test].Message; !seen[text] {
				seen[text] = true
				found[fmt.Sprintf("%s/%d/%s", name, i, test)] = []byte(text)
			}
		}
	}
	return found
}

// compareOutcomes holds what became of each message against the list. A refusal
// has a reason, and chunks change nothing but where DATA itself cannot carry the
// octets.
func compareOutcomes(t *testing.T, originals []message, refused map[string]string) {
	t.Helper()
	outcome := func(m message, way int) string {
		why := refused[formName(m, way)]
		if why == "" {
			return "passes"
		}
		if fields := strings.Fields(why); len(fields) != 3 || !slices.Contains(mail.Reasons(), mail.Reason(fields[2])) {
			t.Errorf("%s: refused without a reason: %s", m.name, why)
		}
		return why
	}
	var list strings.Builder
	passing := 0
	for _, m := range originals {
		is, own := outcome(m, asItIs), outcome(m, ownAuthor)
		if by := outcome(m, inChunks); by != is {
			t.Errorf("%s: by DATA it is %s, by BDAT %s", m.name, is, by)
		}
		if by := outcome(m, ownAuthorToo); by != own {
			t.Errorf("%s with an honest author: by DATA it is %s, by BDAT %s", m.name, own, by)
		}
		if own == "passes" {
			passing++
		}
		if is == "passes" {
			own = "not sent"
		}
		fmt.Fprintf(&list, "%s\t%s\t%s\n", m.name, is, own)
	}
	if passing < len(originals)/2 {
		t.Errorf("with an honest author only %d of %d pass", passing, len(originals))
	}
	compareGolden(t, "testdata/suites.golden", list.String())
}

func compareGolden(t *testing.T, golden, is string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(golden, []byte(is), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	was, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	had := map[string]bool{}
	for line := range strings.Lines(string(was)) {
		had[line] = true
	}
	for line := range strings.Lines(is) {
		if !had[line] {
			t.Errorf("not in the list: %s", line)
		}
		delete(had, line)
	}
	for line := range had {
		t.Errorf("only in the list: %s", line)
	}
}

// sameAuthor wants another parser to read the author that the relay decided about,
// in what was delivered, if it can read it at all.
func sameAuthor(t *testing.T, m message, data []byte) {
	t.Helper()
	read, err := netmail.ReadMessage(bytes.NewReader(data))
	if err != nil {
		return // a refusal names no other author
	}
	if from := read.Header["From"]; len(from) != 1 {
		t.Errorf("%s: %d From fields", m.name, len(from))
	}
	authors, err := read.Header.AddressList("From")
	if err != nil {
		return
	}
	if len(authors) != 1 || !strings.EqualFold(authors[0].Address, m.from) {
		t.Errorf("%s: the author is %v, and was %s for the relay", m.name, authors, m.from)
	}
}
