package acceptance

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"anechoic/control/api"
	"anechoic/lab"
	"anechoic/ledger"
	"anechoic/mail"
)

// scanner answers as clamd does, by words of the message, and remembers what it
// was given.
type scanner struct {
	socket string

	mu    sync.Mutex // guards what follows
	seen  []byte
	words map[string]string // answers by words of the message
}

// startScanner listens on a socket in the relay's folder.
func startScanner(t *testing.T, dir string) *scanner {
	t.Helper()
	s := &scanner{socket: filepath.Join(dir, "clamd"), words: map[string]string{
		"XVIRUS": "stream: Test.Virus FOUND\x00", "XPHISH": "stream: Heuristics.Phishing.Email FOUND\x00",
		"XLOCKED": "stream: Heuristics.Encrypted.Zip FOUND\x00", "XNONSENSE": "all is well\x00",
	}}
	l, err := net.Listen("unix", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.answer(conn)
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return s
}

func (s *scanner) answer(conn net.Conn) {
	var got []byte
	chunk := make([]byte, 64<<10)
	for !bytes.HasSuffix(got, []byte("\x00\x00\x00\x00")) {
		if string(got) == "zPING\x00" {
			_, _ = io.WriteString(conn, "PONG\x00")
			return
		}
		n, err := conn.Read(chunk)
		if err != nil {
			return
		}
		got = append(got, chunk[:n]...)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, got...)
	verdict := "stream: OK\x00"
	for word, answer := range s.words {
		if bytes.Contains(got, []byte(word)) {
			verdict = answer
		}
	}
	_, _ = io.WriteString(conn, verdict) // a client that is gone has what it wanted
}

// say changes what it answers to a word.
func (s *scanner) say(word, answer string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.words[word] = answer
}

// screened is a relay whose mail is screened, with more lines of [screening].
func screened(t *testing.T, registry, more string) (*relay, *scanner) {
	t.Helper()
	r := newRelay(t, registry, nil)
	r.stop(t)
	s := startScanner(t, r.dir)
	r.write(t, "relay.toml", fmt.Sprintf(nodeConfig, r.internet.DNS(), r.receiver.Addr().Port())+fmt.Sprintf("[screening]\nclamd = %q\ntimeout = \"10s\"\n%s", "unix:"+s.socket, more))
	r.start(t)
	return r, s
}

// saying is mail of globex with a word in it.
func saying(word string) letter {
	return mailFromUser("app@globex", "ann@globex.test", "X-Word: "+word)
}

func TestWhatAScannerSaysDecidesBeforeAnythingIsSigned(t *testing.T) {
	r, _ := screened(t, registry(), "")
	for word, want := range map[string]struct {
		code   int
		reason mail.Reason
	}{
		"XVIRUS":    {550, mail.ReasonMalware},
		"XPHISH":    {550, mail.ReasonContentRefused},
		"XNONSENSE": {451, mail.ReasonScreeningLost},
	} {
		if stage, answer := r.send(t, saying(word)); answer.code != want.code || answer.reason != want.reason || stage != atData {
			t.Errorf("%s was answered %s at %s", word, answer, stage)
		}
	}
	id := r.detain(t, saying("XLOCKED"))
	if got := r.detained(t, url.Values{"reason": {"CONTENT_REFUSED"}}); len(got) != 1 || got[0] != id {
		t.Errorf("detained are %v", got)
	}
	clean := saying("nothing")
	if _, answer := r.send(t, clean); answer.code != 250 {
		t.Fatalf("a clean message was answered %s; log:\n%s", answer, r.log)
	}
	_, rest, _ := strings.Cut(clean.data, "Message-ID: ")
	if j := r.await(t, rest[:strings.Index(rest, "\r\n")]); !j.Aligned {
		t.Errorf("it left as %+v", j)
	}
	var malware []ledger.Fact
	for _, facts := range r.facts(t, url.Values{"reason": {"MALWARE"}}) {
		malware = append(malware, facts...)
	}
	if len(malware) != 1 || malware[0].Org != "globex" || !strings.Contains(malware[0].Detail, "clamd Test.Virus") {
		t.Errorf("the ledger has %+v", malware)
	}
	if page := r.metricsPage(t); !strings.Contains(page, `anechoic_scanner_answers_total{action="refuse",scanner="clamd"} 2`) || !strings.Contains(page, `anechoic_scanner_resting{scanner="clamd"} 0`) {
		t.Errorf("the metrics have:\n%s", page)
	}
	if n := len(r.receiver.Judgements()); n != 1 {
		t.Errorf("%d messages left", n)
	}
	// A person may release what was held: it is the organisation's own, and signed.
	if released := r.judge(t, api.Release, api.DetainedSelection{IDs: []mail.ID{id}}); released.Done != 1 {
		t.Errorf("released: %+v", released)
	}
}

func TestALostScannerHoldsWhereTheOrganisationWantsThat(t *testing.T) {
	own := strings.Replace(registry(), "id = \"globex\"\n", "id = \"globex\"\nscreening.outbound = { on_loss = \"hold\" }\n", 1)
	if own == registry() {
		t.Fatal("the registry has no such line")
	}
	r, _ := screened(t, own, "on_loss = \"defer\"\n")
	id := r.detain(t, saying("XNONSENSE"))
	if got := r.detained(t, url.Values{"reason": {"SCREENING_LOST"}}); len(got) != 1 || got[0] != id {
		t.Errorf("detained are %v", got)
	}
	if _, answer := r.send(t, mailFromUser("app@acme", "app@acme.test", "X-Word: XNONSENSE")); answer.code != 451 || answer.reason != mail.ReasonScreeningLost {
		t.Errorf("another organisation's was answered %s", answer)
	}
}

func TestAnOrganisationMayHaveItsMailGoUnscreened(t *testing.T) {
	own := strings.Replace(registry(), "id = \"globex\"\n", "id = \"globex\"\nscreening.outbound = { off = true }\n", 1)
	r, s := screened(t, own, "")
	if _, answer := r.send(t, saying("XVIRUS")); answer.code != 250 {
		t.Errorf("it was answered %s", answer)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.seen) > 0 {
		t.Errorf("the scanner was given %q", s.seen)
	}
}

func TestAScannerSeesNoEvidence(t *testing.T) {
	r, s := screened(t, registry(), "")
	if _, answer := r.send(t, mailThrough(acme, lab.Cloud, "2001:db8::5", "ann@acme.test")); answer.code != 250 {
		t.Fatalf("it was answered %s", answer)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, secret := range []string{acmeSecret, acme.SecretName, acme.GUID, "X-MS-Exchange-CrossTenant"} {
		if bytes.Contains(s.seen, []byte(secret)) {
			t.Errorf("it saw %q", secret)
		}
	}
	if !bytes.Contains(s.seen, []byte("ann@acme.test")) {
		t.Error("it saw no message")
	}
}
