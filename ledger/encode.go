package ledger

import (
	"encoding/json"
	"strconv"
	"time"
)

// Every message leaves three facts or more, so their JSON is written by hand:
// encoding/json takes as long for one as all else that Keep does. What is
// written here is read by encoding/json, and a test compares the two.

// object appends one JSON object, leaving out what is empty.
type object struct {
	b     []byte
	begun bool
}

func (o *object) name(name string) {
	if o.begun {
		o.b = append(o.b, ',')
	}
	o.begun = true
	o.b = append(append(append(o.b, '"'), name...), `":`...)
}

func (o *object) text(name, s string) {
	if s != "" {
		o.name(name)
		o.b = appendString(o.b, s)
	}
}

func (o *object) number(name string, n int64) {
	if n != 0 {
		o.name(name)
		o.b = strconv.AppendInt(o.b, n, 10)
	}
}

func (o *object) texts(name string, list []string) {
	for i, s := range list {
		if i == 0 {
			o.name(name)
			o.b = append(o.b, '[')
		} else {
			o.b = append(o.b, ',')
		}
		o.b = appendString(o.b, s)
	}
	if len(list) > 0 {
		o.b = append(o.b, ']')
	}
}

// appendString appends a JSON string (RFC 8259 section 7).
func appendString(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			escaped, err := json.Marshal(s) // never fails for a string
			if err == nil {
				return append(b, escaped...)
			}
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

func appendPublic(b []byte, f *Fact) []byte {
	o := object{b: append(b, '{')}
	o.name("time")
	o.b = append(f.Time.UTC().AppendFormat(append(o.b, '"'), time.RFC3339Nano), '"')
	o.text("id", string(f.ID))
	o.text("event", string(f.Event))
	o.text("org", f.Org)
	o.text("claimed_org", f.ClaimedOrg)
	o.text("source", f.Source)
	o.text("direction", f.Direction)
	if f.Peer.IsValid() {
		o.name("peer")
		if f.Peer.Zone() == "" {
			o.b = append(f.Peer.AppendTo(append(o.b, '"')), '"')
		} else {
			o.b = appendString(o.b, f.Peer.String())
		}
	}
	o.text("helo", f.Helo)
	o.number("size", f.Size)
	o.text("disposition", string(f.Disposition))
	o.text("identity", string(f.Identity))
	o.text("reason", string(f.Reason))
	o.text("class", f.Class)
	o.texts("proofs", f.Proofs)
	o.text("origin", f.Origin)
	o.text("results", f.Results)
	o.text("tenant", f.Tenant)
	o.text("originator", f.Originator)
	o.text("connecting_ip", f.ConnectingIP)
	if f.Generation != 0 {
		o.name("generation")
		o.b = strconv.AppendUint(o.b, f.Generation, 10)
	}
	o.text("site", f.Site)
	o.number("attempt", int64(f.Attempt))
	o.text("egress", f.Egress)
	o.text("tls", f.TLS)
	o.number("count", int64(f.Count))
	return append(o.b, '}')
}

func appendPersonal(b []byte, f *Fact) []byte {
	o := object{b: append(b, '{')}
	o.text("mail_from", f.MailFrom)
	o.text("from", f.From)
	o.texts("rcpt", f.Rcpt)
	o.text("reply", f.Reply)
	o.text("detail", f.Detail)
	return append(o.b, '}')
}
