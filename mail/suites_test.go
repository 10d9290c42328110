package mail

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// suites gives a folder of the shared test data, which is no part of the project.
func suites(t *testing.T, path ...string) string {
	t.Helper()
	root := os.Getenv("ANECHOIC_SUITES")
	if root == "" {
		root = filepath.Join("..", "..", "shared", "suites")
	}
	dir := filepath.Join(append([]string{root}, path...)...)
	if _, err := os.Stat(dir); err != nil {
		t.Skip("the shared suites are not here; set ANECHOIC_SUITES to their folder")
	}
	return dir
}

// refusalOf maps what ParseHeader says to the reply, as reception does.
func refusalOf(err error) *Refusal {
	switch {
	case errors.Is(err, ErrHeaderTooBig):
		return HeaderTooBig.Because("%v", err)
	case errors.Is(err, ErrLineTooLong):
		return LineTooLong.Because("%v", err)
	}
	return HeaderSyntax.Because("%v", err)
}

// readOriginators parses the header of a message and says who it is from.
func readOriginators(message []byte) (Originators, *Refusal) {
	h, err := ParseHeader(headerOf(message), HeaderLimits{})
	if err != nil {
		return Originators{}, refusalOf(err)
	}
	return ReadOriginators(h)
}

// TestEspoofer plays each case of "Composition Kills" (USENIX Security 2020) as
// mail of a client. The owner of legitimate.com (example.com in the client cases)
// must not be impersonated: a case is refused here, or it passes because it is
// well formed and says plainly whom it claims; then policy, which knows who sent
// it, decides by the addresses given here.
func TestEspoofer(t *testing.T) {
	type want struct {
		mailFrom string // "refused" or the domain MAIL FROM claims
		message  any    // *Refusal, or the addresses the message claims
	}
	admin := []string{"admin@legitimate.com"}
	cases := map[string]want{
		// From is one mailbox of legitimate.com: policy asks for proof of that.
		"server_a1": {"mailfrom.notexist.legitimate.com", admin},
		"server_a2": {"refused", admin},
		"server_a3": {"33.attack.com", admin}, // the NUL is in a DKIM selector
		"server_a4": {"attack.com", admin},    // the quote is in a DKIM domain
		"server_a5": {"refused", admin},
		"server_a6": {"refused", admin},
		"server_a7": {"refused", admin},
		// Two From fields, or one that is none.
		"server_a8":  {"attack.com", FromNotSingle},
		"server_a9":  {"attack.com", HeaderSyntax},
		"server_a10": {"attack.com", HeaderSyntax},
		"server_a11": {"attack.com", HeaderSyntax},
		"server_a12": {"attack.com", HeaderSyntax},
		"server_a13": {"attack.com", HeaderSyntax},
		// One From field, but not one mailbox.
		"server_a14": {"attack.com", FromNotSingle},
		"server_a15": {"attack.com", FromNotSingle},
		"server_a16": {"attack.com", FromSyntax},
		"server_a17": {"attack.com", FromSyntax},
		"server_a18": {"attack.com", FromNotSingle},
		"server_a19": {"attack.com", FromSyntax},
		"client_a1":  {"example.com", FromNotSingle},
		"client_a2":  {"example.com", FromNotSingle},
		// From and Sender are plain; the client's credential is for neither.
		"client_a3": {"example.com", []string{"admin@example.com", "s@sender.legitimate.com"}},
	}
	data, err := os.ReadFile(suites(t, "attacks", "espoofer-cases.json"))
	if err != nil {
		t.Fatal(err)
	}
	var all []struct {
		ID       string
		MailFrom string `json:"mail_from"`
		Message  string
	}
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	if len(all) != len(cases) {
		t.Errorf("%d cases in the suite, %d here", len(all), len(cases))
	}
	for _, c := range all {
		w := cases[c.ID]
		from := "refused"
		if a, err := ParseAddress(strings.Trim(c.MailFrom, "<>")); err == nil {
			from = a.Domain().String()
		}
		if from != w.mailFrom {
			t.Errorf("%s: MAIL FROM:%s is %s, want %s", c.ID, c.MailFrom, from, w.mailFrom)
		}
		o, refusal := readOriginators([]byte(c.Message))
		if r, ok := w.message.(*Refusal); ok {
			if refusal == nil || refusal.Text() != r.Text() {
				t.Errorf("%s: %v, want %v", c.ID, refusal, r)
			}
			continue
		}
		if refusal != nil {
			t.Errorf("%s: refused: %v", c.ID, refusal)
			continue
		}
		if d := cmp.Diff(w.message, claims(o)); d != "" {
			t.Errorf("%s: %s", c.ID, d)
		}
	}
}

func claims(o Originators) (list []string) {
	list = append(list, o.From.Address.String())
	for _, a := range slices.Concat(o.Sender, o.ResentFrom, o.ResentSender) {
		list = append(list, a.String())
	}
	return list
}

// strictlyRefused names the real messages that strict rules refuse, all of them
// unsolicited, and what is wrong with their From or the field named.
var strictlyRefused = map[string]string{
	"spam-1/00035": "8-bit display name",
	"spam-1/00068": "two MIME-Version",
	"spam-1/00118": "two MIME-Version",
	"spam-1/00244": "8-bit display name",
	"spam-1/00252": "8-bit local parts, several",
	"spam-1/00263": "encoded-word for a local part",
	"spam-1/00293": "8-bit local part",
	"spam-1/00319": `the local part is "Books@Books"`,
	"spam-1/00320": "encoded-word for a local part",
	"spam-1/00323": "encoded-word for a local part",
	"spam-1/00324": "encoded-word for a local part",
	"spam-1/00338": "8-bit local part in To",
	"spam-1/00407": "8-bit display name",
	"spam-1/00468": "several mailboxes",
}

// TestRealMail reads real mail of 2002: what comes out is what went in, and only
// those named above are refused.
func TestRealMail(t *testing.T) {
	files := corpus(t, suites(t, "real", "spamassassin-public-corpus"))
	refused := map[Reason]int{}
	for _, file := range files {
		message, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		message = asReceived(message)
		header := headerOf(message)
		if h, err := ParseHeader(header, HeaderLimits{}); err == nil && !bytes.Equal(h.Bytes(), header) {
			t.Errorf("%s: the header changed", file)
		}
		number, _, _ := strings.Cut(filepath.Base(file), ".")
		name := filepath.Base(filepath.Dir(file)) + "/" + number
		_, known := strictlyRefused[name]
		_, refusal := readOriginators(message)
		if known != (refusal != nil) {
			t.Errorf("%s: %v", name, refusal)
		}
		if refusal != nil {
			refused[refusal.Reason()]++
		}
	}
	t.Logf("%d messages; refused: %v", len(files), refused)
}

// headerOf gives the header of a message with its empty line.
func headerOf(message []byte) []byte {
	if bytes.HasPrefix(message, crlf) {
		return crlf
	}
	header, _, _ := bytes.Cut(message, []byte("\r\n\r\n"))
	header = bytes.TrimSuffix(header, crlf)
	return append(header[:len(header):len(header)], "\r\n\r\n"...)
}

func corpus(t *testing.T, dir string) []string {
	files, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no messages in %s: %v", dir, err)
	}
	return files
}

// asReceived undoes what a mailbox file did: its From line, and line ends of LF.
func asReceived(b []byte) []byte {
	if bytes.HasPrefix(b, []byte("From ")) {
		_, b, _ = bytes.Cut(b, []byte("\n"))
	}
	b = bytes.ReplaceAll(b, crlf, []byte("\n"))
	return bytes.ReplaceAll(b, []byte("\n"), crlf)
}
