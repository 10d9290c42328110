package content

import (
	"fmt"
	"math/bits"
	"strings"
	"testing"

	"anechoic/ledger"
)

const expired = "Subject: Your subscription %d has expired\nMessage-ID: <%d@vps.example>\nContent-Type: text/html\n\n<p>Dear customer,</p> your yearly subscription for the antivirus has expired on %d. If you did not ask for the renewal, <a href=\"http://renew.example/%d\">cancel it here</a> within the next hours, or the amount is taken from your account. Reference %x."

func printOf(t *testing.T, text string) ledger.Print {
	t.Helper()
	return PrintOf(messageOf(t, text))
}

func TestMessagesOfOneCampaignAreAlike(t *testing.T) {
	first := printOf(t, fmt.Sprintf(expired, 1, 1, 1, 1, 1))
	if first.Text == 0 || first.IDHost != "vps.example" || len(first.Hosts) != 1 || first.Hosts[0] != "renew.example" {
		t.Fatalf("%+v", first)
	}
	for n := range 50 {
		n := n*7919 + 2
		p := printOf(t, fmt.Sprintf(expired, n, n, n, n, n))
		if p.Text != first.Text || p.Shape != first.Shape {
			t.Errorf("message %d: %+v, the first %+v", n, p, first)
		}
	}
	changed := printOf(t, strings.ReplaceAll(fmt.Sprintf(expired, 1, 1, 1, 1, 1), "Dear customer", "Good morning friend"))
	if d := bits.OnesCount64(changed.Text ^ first.Text); d == 0 || d > 16 {
		t.Errorf("another greeting changes %d bits", d)
	}
}

func TestOtherMessagesAreNot(t *testing.T) {
	a := printOf(t, fmt.Sprintf(expired, 1, 1, 1, 1, 1))
	b := printOf(t, "Subject: Minutes\n\nPlease find attached what we agreed upon on Monday: the team in the north moves to the new office, and everybody else stays where they are until spring.")
	if d := bits.OnesCount64(a.Text ^ b.Text); d < 20 || a.Shape == b.Shape {
		t.Errorf("they differ in %d bits; shapes %x and %x", d, a.Shape, b.Shape)
	}
	if p := printOf(t, "Subject: s\n\nthanks, see you"); p.Text != 0 {
		t.Errorf("a few words have the sum %x", p.Text)
	}
	if p := printOf(t, "From: a@b.example\n\n"); !p.IsZero() {
		t.Errorf("%+v", p)
	}
}

func TestAReplayedSignatureIsTheSame(t *testing.T) {
	one := printOf(t, "DKIM-Signature: v=1; bh=abc=; b=AAAA\n BBBB; d=x.example\nTo: a@a.example\n\nx")
	two := printOf(t, "To: z@z.example\nDKIM-Signature: v=1; bh=abc=; b=AAAABBBB; d=x.example\n\ny")
	other := printOf(t, "DKIM-Signature: v=1; bh=abc=; b=AAAC; d=x.example\n\nx")
	if one.Signature == 0 || one.Signature != two.Signature || one.Signature == other.Signature {
		t.Errorf("%x %x %x", one.Signature, two.Signature, other.Signature)
	}
}

// TestAPrintOfAnythingCanBeStored holds what the ledger wants of a Print against
// whatever strangers write.
func FuzzPrintOf(f *testing.F) {
	f.Add([]byte(fmt.Sprintf(expired, 1, 2, 3, 4, 5)))
	f.Add([]byte("Message-ID: <a@[127.0.0.1]>\nSubject: =?utf-8?q?=F0?=\nDKIM-Signature: b\nContent-Type: multipart/mixed; boundary=a\n\n--a\n\nhttp://a_b.example/ http://XN--a.example\n--a--"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p := PrintOf(messageOf(t, string(text)))
		again, err := ledger.ParsePrint(p.String())
		if err != nil || again.String() != p.String() {
			t.Errorf("%q: %v", p.String(), err)
		}
	})
}
