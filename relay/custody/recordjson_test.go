package custody

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"anechoic/mail"
)

var sameRecord = []cmp.Option{cmpopts.EquateEmpty(), cmp.Comparer(func(a, b mail.Address) bool { return a == b }), cmp.Comparer(func(a, b mail.Domain) bool { return a == b })}

// drawnTime is one as records have them.
func drawnTime(t *rapid.T, name string) time.Time {
	return time.Unix(rapid.Int64Range(1, 1e10).Draw(t, name), rapid.Int64Range(0, 999_999_999).Draw(t, name+", nanoseconds")).UTC()
}

func drawnAddress(t *rapid.T, name string) mail.Address {
	texts := []string{"ann@acme.test", `"a \"b\" <c>"@acme.test`, "jürgen@bücher.example", "a&b@xn--bcher-kva.example"}
	a, err := mail.ParseAddressUTF8(rapid.SampledFrom(texts).Draw(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// What is written by hand is what encoding/json would have written.
func TestRecordsReadBackAsFromEncodingJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text, octets := rapid.String(), rapid.SliceOf(rapid.Byte())
		from := drawnAddress(t, "from")
		m := messageRecord{
			Kind: WarrantKind(text.Draw(t, "kind")), Sealed: octets.Draw(t, "sealed"), SignAs: from.Domain(), Org: text.Draw(t, "org"), Source: text.Draw(t, "source"),
			Kept: drawnTime(t, "kept"), Expires: drawnTime(t, "expires"), Recipients: rapid.Uint32().Draw(t, "recipients"), Accepted: octets.Draw(t, "accepted"),
			HeaderSize: rapid.Int64().Draw(t, "header"), Size: rapid.Int64().Draw(t, "size"), Hash: octets.Draw(t, "hash"),
			Envelope: mail.Envelope{From: from, EightBit: rapid.Bool().Draw(t, "8"), UTF8: rapid.Bool().Draw(t, "utf8"), RequireTLS: rapid.Bool().Draw(t, "tls"), Ret: text.Draw(t, "ret"), EnvID: text.Draw(t, "envid")},
		}
		compareRecord(t, &m, new(messageRecord), new(messageRecord))
		r := recipientRecord{
			Recipient: mail.Recipient{Address: drawnAddress(t, "to"), Notify: mail.Notify(rapid.Byte().Draw(t, "notify")), ORcpt: text.Draw(t, "orcpt")},
			MAC:       octets.Draw(t, "mac"), Due: drawnTime(t, "due"), Attempts: rapid.Uint16().Draw(t, "attempts"), State: recipientState(rapid.Byte().Draw(t, "state")),
			Reason: mail.Reason(text.Draw(t, "reason")), Reply: text.Draw(t, "reply"), Told: rapid.Bool().Draw(t, "told"),
		}
		if rapid.Bool().Draw(t, "with a course") {
			r.Course = &Course{Via: text.Draw(t, "via"), By: text.Draw(t, "by"), At: drawnTime(t, "at")}
		}
		compareRecord(t, &r, new(recipientRecord), new(recipientRecord))
	})
}

func compareRecord(t *rapid.T, v stored, byHand, byJSON any) {
	b, err := encodeRecord(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := decodeRecord(b, byHand); err != nil {
		t.Fatalf("%v in %q", err, b)
	}
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, byJSON); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(byJSON, byHand, sameRecord...); diff != "" {
		t.Error(diff)
	}
}
