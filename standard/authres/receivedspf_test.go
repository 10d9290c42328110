package authres

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"anechoic/mail"
)

func TestReceivedSPFIsReadAsItIsMeant(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want ReceivedSPF
	}{
		"a word": {"None", ReceivedSPF{Result: "none"}},
		"all keys": {
			"pass (mx.example: it is (so)) receiver=mx.example; client-ip=192.0.2.1;\r\n envelope-from=\"ada@t.example\"; helo=h.example;\r\n\tidentity=mailfrom; mechanism=\"ip4:192.0.2.0/24\"; problem=none",
			ReceivedSPF{Result: "pass", Comment: "mx.example: it is (so)", Receiver: "mx.example", ClientIP: "192.0.2.1", EnvelopeFrom: "ada@t.example", HELO: "h.example", Identity: "mailfrom", Mechanism: "ip4:192.0.2.0/24", Problem: "none"},
		},
		"as Microsoft and Google write it": {
			"Fail (p.example: domain of d.example does not\r\n designate 2001:db8::1 as permitted sender)\r\n receiver=p.example; client-ip=2001:db8::1; helo=h.example; pr=C;",
			ReceivedSPF{Result: "fail", Comment: "p.example: domain of d.example does not designate 2001:db8::1 as permitted sender", Receiver: "p.example", ClientIP: "2001:db8::1", HELO: "h.example"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseReceivedSPF([]byte(c.text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWhatIsNoReceivedSPFIsRefused(t *testing.T) {
	for name, text := range map[string]string{
		"nothing": "", "an unknown result": "good", "a result with more": "pass=1", "no semicolon": "pass helo=a receiver=b",
		"a key twice": "pass helo=a; HELO=b", "no value": "pass helo", "two semicolons": "pass helo=a;; receiver=b",
		"a comment that does not end": "pass (helo=a", "a quote that does not end": "pass helo=\"a", "a bare line end": "pass\nhelo=a", "NUL": "pass helo=\x00",
		"too many keys": "pass " + strings.Repeat("k=v;", 1) + manyKeys(MaxProperties+1),
	} {
		t.Run(name, func(t *testing.T) {
			if f, err := ParseReceivedSPF([]byte(text)); err == nil {
				t.Errorf("read as %+v", f)
			}
		})
	}
}

func manyKeys(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("k" + strings.Repeat("x", i) + "=v;")
	}
	return b.String()
}

// TestReceivedSPFReadsBackTheSame: whatever the values hold.
func TestReceivedSPFReadsBackTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := ReceivedSPF{Result: rapid.OneOf(rapid.SampledFrom(spfResults), hostileText()).Draw(t, "result"), Comment: hostileText().Draw(t, "comment")}
		for _, p := range f.pairs() {
			*p.value = hostileText().Draw(t, p.key)
		}
		checkReceivedSPF(t, f)
	})
}

func checkReceivedSPF(t rapid.TB, f ReceivedSPF) {
	text := f.String()
	got, err := ParseReceivedSPF([]byte(text))
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	if diff := cmp.Diff(f.clean(), got); diff != "" {
		t.Fatalf("%q\n%s", text, diff)
	}
	header, err := mail.ParseHeader(f.Field().Raw(), mail.HeaderLimits{})
	if err != nil || len(header.Fields) != 1 || strings.Contains(text, encodedWord) {
		t.Fatalf("%q: %d fields, %v", text, len(header.Fields), err)
	}
}

func TestReceivedSPFOfOursIsSeen(t *testing.T) {
	for name, c := range map[string]struct {
		value string
		ours  bool
	}{
		"our name":                    {"pass receiver=mx.ours.example; client-ip=192.0.2.1", true},
		"quoted, in another case":     {"pass (x) helo=h.example; receiver=\"MX.ours.example.\"", true},
		"nobody's name":               {"pass client-ip=192.0.2.1", true},
		"our name, unreadable":        {"pass; receiver=mx.ours.example", true},
		"our name in a broken result": {"Pass (mx.ours.example: yes", true},
		"another's name":              {"pass receiver=mx.other.example; helo=mx.ours.example", false},
		"another's, unreadable":       {"pass; receiver=mx.other.example", false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Ours(mail.NewField("received-spf", c.value), "mx.ours.example"); got != c.ours {
				t.Errorf("%t, want %t", got, c.ours)
			}
		})
	}
}
