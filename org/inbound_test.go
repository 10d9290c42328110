package org

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"anechoic/mail"
)

const inboundExample = `
[[organisation]]
id = "acme"
name = "Acme"
security_contact = "security@acme.test"
  [[organisation.domain]]
  name = "acme.test"
  [[organisation.domain]]
  name = "lists.acme.test"
  [[organisation.inbound]]
  domains = ["acme.test"]
  deliver_to = "lmtp:127.0.0.1:24"
  recipients_file = "recipients.txt"
  [[organisation.inbound]]
  domains = ["lists.acme.test"]
  deliver_to = "127.0.0.1:2600"
  recipients = "ask"
`

func buildInbound(t *testing.T, recipients string) (*Directory, []Problem) {
	t.Helper()
	folder := t.TempDir()
	for name, text := range map[string]string{"registry.toml": inboundExample, "recipients.txt": recipients} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	reg, _ := ReadRegistry(filepath.Join(folder, "registry.toml"))
	dir, problems, _ := Build(reg, Providers{}, nil, 1, time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC))
	return dir, problems
}

func TestRecipientsAreThoseOfTheList(t *testing.T) {
	dir, problems := buildInbound(t, "# people\nAnn@acme.test # the boss\n\n bücher@acme.test\n@lists.acme.test\n")
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	in, _ := dir.InboundFor(domain(t, "acme.test"))
	if !in.Lists() || !in.LMTP || in.DeliverTo != "127.0.0.1:24" {
		t.Errorf("%+v", in)
	}
	for address, want := range map[string]bool{
		"ann@acme.test": true, "ANN@ACME.test": true, "ann+news@acme.test": true, "bücher@acme.test": true, "anyone@lists.acme.test": true,
		"bob@acme.test": false, "an@acme.test": false, "+ann@acme.test": false, "ann@acme.test.evil.test": false, "x@sub.lists.acme.test": false,
	} {
		a, err := mail.ParseAddressUTF8(address)
		if err != nil {
			t.Fatal(err)
		}
		if in.Listed(a) != want {
			t.Errorf("%s: listed %t", address, !want)
		}
	}
	if other, _ := dir.InboundFor(domain(t, "lists.acme.test")); other.Lists() || !other.AskServer {
		t.Errorf("%+v", other)
	}
}

func TestAListWithAnErrorIsNoList(t *testing.T) {
	for _, text := range []string{"ann@acme.test\nno address\n", "@\n", strings.Repeat("a", 400) + "@acme.test\n"} {
		if dir, problems := buildInbound(t, text); len(problems) != 1 || dir != nil {
			t.Errorf("%.20q: %v", text, problems)
		}
	}
	if dir, problems := buildInbound(t, ""); len(problems) > 0 || dir == nil {
		t.Error("an empty list lists nobody, and is one")
	}
}

func TestWhoSendsHereTakesReportsOfItsOwnMailOnly(t *testing.T) {
	dir, _ := buildInbound(t, "")
	if in, _ := dir.InboundFor(domain(t, "acme.test")); in.Bounces != BouncesAny {
		t.Errorf("acme does not send here: %q", in.Bounces)
	}
	sends := build(t, example)
	if in, _ := sends.InboundFor(domain(t, "globex.test")); in.Bounces != BouncesOurs || in.Echo != EchoMark || in.DMARC != DMARCEnforce {
		t.Errorf("%+v", in)
	}
}
