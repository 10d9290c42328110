package custody

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"anechoic/mail"
)

func TestKeysReadBackAndOrderAsNumbersDo(t *testing.T) {
	id := mail.NewID(time.Unix(1, 0))
	last := ""
	for _, n := range []uint32{0, 1, 15, 16, 255, 4095, 1 << 20, 1<<32 - 1} {
		key := recipientKey(id, n)
		got, number, err := parseRecipientKey(key)
		if err != nil || got != id || number != n {
			t.Errorf("%s reads as %s, %d, %v", key, got, number, err)
		}
		if key <= last {
			t.Errorf("%s does not come after %s", key, last)
		}
		last = key
	}
	if got, err := parseMessageKey(messageKey(id)); err != nil || got != id {
		t.Errorf("%s, %v", got, err)
	}
}

// What a warrant is bound to cannot be shifted from one field to the next.
func TestNoTwoEnvelopesHaveTheSameContext(t *testing.T) {
	id := mail.NewID(time.Unix(1, 0))
	base := messageRecord{Kind: KindProven, Org: "acme", Source: "app", Kept: time.Unix(1, 0), Expires: time.Unix(2, 0), Recipients: 1, HeaderSize: 2, Size: 3}
	seen := map[string]string{string(base.context(id)): "the base"}
	for name, change := range map[string]func(*messageRecord){
		"kind":       func(m *messageRecord) { m.Kind = KindNotice },
		"org, more":  func(m *messageRecord) { m.Org, m.Source = "acmea", "pp" },
		"org, less":  func(m *messageRecord) { m.Org, m.Source = "acm", "eapp" },
		"kept":       func(m *messageRecord) { m.Kept = time.Unix(3, 0) },
		"expires":    func(m *messageRecord) { m.Expires = time.Unix(3, 0) },
		"8bit":       func(m *messageRecord) { m.Envelope.EightBit = true },
		"ret":        func(m *messageRecord) { m.Envelope.Ret = "FULL" },
		"envid":      func(m *messageRecord) { m.Envelope.EnvID = "FULL" },
		"recipients": func(m *messageRecord) { m.Recipients = 2 },
		"accepted":   func(m *messageRecord) { m.Accepted = []byte("x") },
		"header":     func(m *messageRecord) { m.HeaderSize = 3 },
		"size":       func(m *messageRecord) { m.Size = 4 },
		"hash":       func(m *messageRecord) { m.Hash = []byte("x") },
	} {
		m := base
		change(&m)
		c := string(m.context(id))
		if other, ok := seen[c]; ok {
			t.Errorf("%s has the context of %s", name, other)
		}
		seen[c] = name
	}
	if seen[string(base.context(mail.NewID(time.Unix(9, 0))))] != "" {
		t.Error("another id has the same context")
	}
}

func FuzzDecodeMessage(f *testing.F) {
	good := messageRecord{Kind: KindNotice, Sealed: []byte("x"), Org: "acme", Kept: time.Unix(1, 0).UTC(), Expires: time.Unix(2, 0).UTC(), Recipients: 1, HeaderSize: 2, Size: 2, Hash: make([]byte, 32)}
	b, err := encodeRecord(&good)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{1, '{', '}'})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMessage(b)
		if err != nil {
			return
		}
		again, err := encodeRecord(m)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := decodeMessage(again); err != nil || string(n.context("id")) != string(m.context("id")) {
			t.Errorf("%q reads back differently: %v", b, err)
		}
	})
}

func FuzzDecodeRecipient(f *testing.F) {
	a, _ := mail.ParseAddress("bob@else.test")
	b, err := encodeRecord(&recipientRecord{Recipient: mail.Recipient{Address: a}, MAC: []byte("x"), Due: time.Unix(1, 0)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRecipient(b)
		if err != nil {
			return
		}
		again, err := encodeRecord(r)
		if err != nil {
			t.Fatal(err)
		}
		s, err := decodeRecipient(again)
		if err != nil || s.Recipient != r.Recipient || !s.Due.Equal(r.Due) || s.State != r.State {
			t.Errorf("%q reads back as %+v: %v", b, s, err)
		}
	})
}

func FuzzDecodeSite(f *testing.F) {
	d, err := mail.ParseDomain("else.test")
	if err != nil {
		f.Fatal(err)
	}
	b, err := encodeRecord(&siteRecord{Domain: d, Site: "mx.else.test", Last: time.Unix(1, 0).UTC()})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(siteKey(d), b)
	f.Add(siteKey(d), []byte{1, '{', '}'})
	f.Fuzz(func(t *testing.T, key string, b []byte) {
		r, err := decodeSite(key, b)
		if err != nil {
			return
		}
		again, err := encodeRecord(&r)
		if err != nil {
			t.Fatal(err)
		}
		if s, err := decodeSite(siteKey(r.Domain), again); err != nil || s.Domain != r.Domain || s.Site != r.Site || !s.Last.Equal(r.Last) {
			t.Errorf("%q reads back as %+v: %v", b, s, err)
		}
	})
}

func FuzzParseKeys(f *testing.F) {
	f.Add(recipientKey(mail.NewID(time.Unix(1, 0)), 7))
	f.Add("message/")
	f.Fuzz(func(t *testing.T, key string) {
		if id, n, err := parseRecipientKey(key); err == nil && recipientKey(id, n) != key {
			t.Errorf("%q reads as that of %s, %d", key, id, n)
		}
		if id, err := parseMessageKey(messagePrefix + key); err == nil && string(id) != key {
			t.Errorf("%q reads as that of %s", key, id)
		}
	})
}

// What is done leaves nothing behind, however slots come and go.
func TestTheIndexForgetsWhatIsDone(t *testing.T) {
	opts, err := Options{SealKey: make([]byte, 32)}.prepared()
	if err != nil {
		t.Fatal(err)
	}
	x := newIndex(&opts)
	d, err := mail.ParseDomain("else.test")
	if err != nil {
		t.Fatal(err)
	}
	other, err := mail.ParseDomain("other.test")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		e := x.add(idKey{1}, "acme", "app")
		x.addRecipient(e, d, way{}, rcpt{due: 1})
		x.addRecipient(e, other, way{}, rcpt{due: 2, number: 2})
		x.addRecipient(e, d, way{}, rcpt{due: 5, number: 1})
		for s := range e.slots {
			x.place(s)
		}
		taken := x.take(3, 10, nil)
		if len(taken) != 2 || taken[0].due() != 1 || taken[1].due() != 2 {
			t.Fatalf("%+v", taken)
		}
		for _, s := range taken {
			x.done(s, func(*rcpt) bool { return true })
		}
		for range e.slots {
			t.Error("a slot is left")
		}
		if e.open != 0 {
			t.Errorf("%+v", e)
		}
		x.leave(e)
		x.take(3, 10, nil) // the lane's turn, with nothing left
		if diff := cmp.Diff(0, len(x.messages)+len(x.tenants)+len(x.ready)+len(x.waiting)); diff != "" {
			t.Error(diff)
		}
	}
}

func FuzzGlance(f *testing.F) {
	a, _ := mail.ParseAddress("bob@else.test")
	b, err := encodeRecord(&recipientRecord{Recipient: mail.Recipient{Address: a}, MAC: []byte("x"), Due: time.Unix(1, 0), Attempts: 3})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	if b, err = encodeRecord(&recipientRecord{Recipient: mail.Recipient{Address: a}, Due: time.Unix(1, 0), Course: &Course{Via: "hop.test:25", By: "ann"}}); err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{2, 0, 0, 0, 0, 200, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1+sumSize && b[0] == recordVersion {
			sumRecord(b)
		}
		_, _ = glanceMessage(b)
		r, name, err := glanceRecipient(b)
		if full, bad := decodeRecipient(b); bad == nil && b[0] == recordVersion1 && err == nil &&
			(full.rcpt() != r || string(full.Course.way().appendTo([]byte(full.Address.Domain().String()))) != string(name)) {
			t.Errorf("%q reads as %+v at %q, and in full as %+v", b, r, name, full)
		}
	})
}

func TestTheSummaryOfARecordIsWhatTheIndexNeeds(t *testing.T) {
	a, err := mail.ParseAddress("bob@else.test")
	if err != nil {
		t.Fatal(err)
	}
	want := recipientRecord{Recipient: mail.Recipient{Address: a}, MAC: []byte("x"), Due: time.Unix(9, 8), Attempts: 3, State: recipientHeld}
	b, err := encodeRecord(&want)
	if err != nil {
		t.Fatal(err)
	}
	r, name, err := glanceRecipient(b)
	if err != nil || r != want.rcpt() || string(name) != "else.test" {
		t.Errorf("%+v at %s: %v", r, name, err)
	}
	for n := range b {
		bad := bytes.Clone(b)
		bad[n] ^= 0x10
		if _, _, err := glanceRecipient(bad); err == nil {
			t.Errorf("octet %d is damaged, and nobody noticed", n)
		}
		if _, err := decodeRecipient(b[:n]); err == nil {
			t.Errorf("cut short to %d octets, and nobody noticed", n)
		}
	}
}
