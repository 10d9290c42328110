package ledger

import (
	"encoding/json"
	"fmt"

	"anechoic/mail"
)

// Whatever is made of the ledger reads every fact of it, so the JSON that Encode
// writes is read by hand too: a flat object without blanks, of names in a known
// spelling, plain strings, arrays of them and integers. All else, such as a text with
// an escape, is left to encoding/json. A fuzzer compares the two.

// Decode reads a stored record. Of an erased one the personal fields are empty.
// It does not show that the record is what was sealed: that is for Verify.
func Decode(offset uint64, record []byte) (Fact, error) {
	r, err := parse(record)
	if err != nil {
		return Fact{}, err
	}
	f := Fact{Offset: offset}
	if !readObject(r.public, &f, publicField) {
		var p public
		if err := json.Unmarshal(r.public, &p); err != nil {
			return Fact{}, fmt.Errorf("%w: public part: %v", ErrMalformed, err)
		}
		f = joinPublic(offset, &p)
	}
	if r.key != nil && !readObject(r.personal, &f, personalField) {
		var q personal
		if err := json.Unmarshal(r.personal, &q); err != nil {
			return Fact{}, fmt.Errorf("%w: personal part: %v", ErrMalformed, err)
		}
		joinPersonal(&f, &q)
	}
	return f, nil
}

// readObject gives each field of an object to a function. It says false where it meets
// what it does not know: what it read until then counts for nothing.
func readObject(b []byte, f *Fact, field func(f *Fact, name []byte, v value) bool) bool {
	if len(b) < 2 || b[0] != '{' {
		return false
	}
	for b = b[1:]; ; b = b[1:] {
		name, rest, ok := readString(b)
		if !ok || len(rest) == 0 || rest[0] != ':' {
			return false
		}
		v, rest, ok := readValue(rest[1:])
		if !ok || len(rest) == 0 || !field(f, name, v) {
			return false
		}
		if b = rest; b[0] != ',' {
			return b[0] == '}' && len(b) == 1
		}
	}
}

// value is that of a field: a text, texts or a number.
type value struct {
	kind  byte // '"', '[' or '0'
	text  []byte
	texts []string
	bits  uint64 // of the number without its sign
	minus bool
}

// readValue reads a value and gives what follows it.
func readValue(b []byte) (v value, rest []byte, ok bool) {
	if len(b) == 0 {
		return v, nil, false
	}
	switch b[0] {
	case '"':
		v.kind = '"'
		v.text, rest, ok = readString(b)
	case '[':
		v.kind = '['
		v.texts, rest, ok = readTexts(b)
	default:
		v.kind = '0'
		rest, ok = v.readNumber(b)
	}
	return v, rest, ok
}

// readString reads a string of printable ASCII without an escape.
func readString(b []byte) (text, rest []byte, ok bool) {
	if len(b) == 0 || b[0] != '"' {
		return nil, nil, false
	}
	for i := 1; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			return b[1:i], b[i+1:], true
		case c < ' ' || c > '~' || c == '\\':
			return nil, nil, false
		}
	}
	return nil, nil, false
}

// readTexts reads an array of strings that is not empty.
func readTexts(b []byte) (texts []string, rest []byte, ok bool) {
	for {
		text, rest, ok := readString(b[1:])
		if !ok || len(rest) == 0 {
			return nil, nil, false
		}
		texts = append(texts, string(text))
		if b = rest; b[0] != ',' {
			return texts, b[1:], b[0] == ']'
		}
	}
}

// maxDigits is how many digits surely fit into an int64.
const maxDigits = 18

// readNumber reads an integer as RFC 8259 section 6 writes it: no zero leads.
func (v *value) readNumber(b []byte) (rest []byte, ok bool) {
	if b[0] == '-' {
		v.minus, b = true, b[1:]
	}
	n := 0
	for ; n < len(b) && b[n] >= '0' && b[n] <= '9'; n++ {
		v.bits = v.bits*10 + uint64(b[n]-'0')
	}
	if n == 0 || n > maxDigits || b[0] == '0' {
		return nil, false
	}
	return b[n:], true
}

// into stores a text where a string stands.
func into[T ~string](v value, at *T) bool {
	if v.kind != '"' {
		return false
	}
	if word, known := usual[string(v.text)]; known {
		*at = T(word)
	} else {
		*at = T(v.text)
	}
	return true
}

// usual are texts that most facts have, and need not have each for itself.
var usual = func() map[string]string {
	words := map[string]string{}
	for _, w := range []string{
		string(Accepted), string(Leased), string(Delivered), string(Deferred), string(Refused), string(Bounced), string(Held), "outbound", "inbound",
		string(DispositionRelayed), string(DispositionRefused), string(DispositionHeld), string(DispositionDeferred), string(DispositionBounced),
		string(Proven), string(Unproven), string(Contradicted), "hosted", "hybrid", "forwarded", string(mail.ReasonTenantNotAuthorized),
	} {
		words[w] = w
	}
	return words
}()

// number stores a number.
func number[T int | int64](v value, at *T) bool {
	n := T(v.bits)
	if v.minus {
		n = -n
	}
	*at = n
	return v.kind == '0'
}

// list stores texts.
func list(v value, at *[]string) bool {
	*at = v.texts
	return v.kind == '['
}

// publicField stores a field of public; joinPublic names the same ones.
func publicField(f *Fact, name []byte, v value) bool {
	switch string(name) {
	case "time":
		return v.kind == '"' && f.Time.UnmarshalText(v.text) == nil
	case "id":
		return into(v, &f.ID)
	case "event":
		return into(v, &f.Event)
	case "org":
		return into(v, &f.Org)
	case "claimed_org":
		return into(v, &f.ClaimedOrg)
	case "source":
		return into(v, &f.Source)
	case "direction":
		return into(v, &f.Direction)
	case "peer":
		return v.kind == '"' && f.Peer.UnmarshalText(v.text) == nil
	case "helo":
		return into(v, &f.Helo)
	case "size":
		return number(v, &f.Size)
	case "disposition":
		return into(v, &f.Disposition)
	case "identity":
		return into(v, &f.Identity)
	case "reason":
		return into(v, &f.Reason)
	case "class":
		return into(v, &f.Class)
	case "proofs":
		return list(v, &f.Proofs)
	case "generation":
		f.Generation = v.bits
		return v.kind == '0' && !v.minus
	case "site":
		return into(v, &f.Site)
	case "attempt":
		return number(v, &f.Attempt)
	case "egress":
		return into(v, &f.Egress)
	case "tls":
		return into(v, &f.TLS)
	case "count":
		return number(v, &f.Count)
	}
	return evidenceField(f, name, v)
}

// evidenceField stores the fields of public that say what spoke for and against a
// message.
func evidenceField(f *Fact, name []byte, v value) bool {
	switch string(name) {
	case "origin":
		return into(v, &f.Origin)
	case "results":
		return into(v, &f.Results)
	case "tenant":
		return into(v, &f.Tenant)
	case "originator":
		return into(v, &f.Originator)
	case "connecting_ip":
		return into(v, &f.ConnectingIP)
	}
	return false
}

// personalField stores a field of personal.
func personalField(f *Fact, name []byte, v value) bool {
	switch string(name) {
	case "mail_from":
		return into(v, &f.MailFrom)
	case "from":
		return into(v, &f.From)
	case "rcpt":
		return list(v, &f.Rcpt)
	case "reply":
		return into(v, &f.Reply)
	case "detail":
		return into(v, &f.Detail)
	case "message_id":
		return into(v, &f.MessageID)
	case "print":
		return v.kind == '"' && f.Print.UnmarshalText(v.text) == nil
	}
	return false
}
