package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/smtp"
	"net/textproto"
	"slices"
	"strings"
	"time"

	"anechoic/control/api"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/attribution"
	"anechoic/relay/policy"
)

// trialOf is a message that was proven, as plain values: what a stranger can copy of
// it, and what not.
type trialOf struct {
	dir      *org.Directory
	evidence attribution.Evidence
	message  policy.Message
}

// A stranger of documentation addresses and names (RFC 5737, RFC 2606), that belongs
// to nobody here.
var (
	strangerAddress = netip.MustParseAddr("203.0.113.77")
	strangerTenant  = "0badc0de-5b00-4f00-8a00-0badc0de0001"
	strangerName    = "stranger.invalid"
)

// spoofWay is one way of sending the same message without being the source. apply
// changes the copy, and says whether there is anything to try.
type spoofWay struct {
	name  string
	apply func(t *trialOf, s *org.Source) bool
}

// everybody, and those below, are the ways that a stranger has, by what the source
// rests on.
var spoofsOfAll = []spoofWay{
	{"from an address elsewhere, with nothing else", func(t *trialOf, _ *org.Source) bool {
		t.evidence = attribution.Evidence{Peer: strangerAddress, TLS: true, From: t.evidence.From}
		return true
	}},
	{"from an address elsewhere, with a copy of every header field", func(t *trialOf, _ *org.Source) bool {
		header, from := t.evidence.Header, t.evidence.From
		t.evidence = attribution.Evidence{Peer: strangerAddress, TLS: true, From: from, Header: header, Signatures: t.evidence.Signatures}
		return true
	}},
	{"with a From of a stranger's domain", func(t *trialOf, _ *org.Source) bool { return t.writeAs(strangerName) }},
	{"with a MAIL FROM of a stranger's domain", func(t *trialOf, _ *org.Source) bool {
		a, err := mail.ParseAddress("probe@" + strangerName)
		t.message.MailFrom = a
		return err == nil
	}},
	{"with a Sender of a stranger's domain", func(t *trialOf, _ *org.Source) bool {
		a, err := mail.ParseAddress("probe@" + strangerName)
		t.message.Originators.Sender = []mail.Address{a}
		return err == nil
	}},
	{"with a From of another organisation here", func(t *trialOf, s *org.Source) bool {
		for d := range t.dir.Domains() {
			if d.Organisation != s.Organisation {
				return t.writeAs(d.Name.String())
			}
		}
		return false
	}},
}

// spoofsOfKind are those that depend on the kind of the source.
var spoofsOfKind = map[org.Kind][]spoofWay{
	org.Microsoft365: {
		{"from a stranger's tenant, with the right secret", func(t *trialOf, _ *org.Source) bool {
			t.evidence.Header.TenantID = attribution.Stamp{Count: 1, Value: strangerTenant}
			return true
		}},
		{"from a stranger's tenant and originator, with the right secret", func(t *trialOf, _ *org.Source) bool {
			t.evidence.Header.TenantID = attribution.Stamp{Count: 1, Value: strangerTenant}
			t.evidence.Header.Originator = attribution.Stamp{Count: 1, Value: strangerName}
			return true
		}},
		{"from the tenant, with a stranger's originator", func(t *trialOf, _ *org.Source) bool {
			t.evidence.Header.Originator = attribution.Stamp{Count: 1, Value: strangerName}
			return true
		}},
		{"with the tenant's stamp written twice", func(t *trialOf, _ *org.Source) bool {
			t.evidence.Header.TenantID.Count = 2
			return true
		}},
		{"without the second proof", func(t *trialOf, s *org.Source) bool {
			return (s.Secret != nil || s.RequireDKIM) && withoutSecondProof(t, s) // one that has none is a finding by itself
		}},
		{"with a wrong secret", wrongSecret},
		{"in the clear", inTheClear},
		{"from an address whose name is not the provider's", func(t *trialOf, _ *org.Source) bool {
			t.evidence.PeerName = attribution.PeerNameUnconfirmed
			return true
		}},
		{"handed to the tenant by a stranger's server", func(t *trialOf, s *org.Source) bool {
			h := &t.evidence.Header
			h.Entity = attribution.Stamp{Count: 1, Value: "HybridOnPrem"}
			h.ConnectingIP = attribution.Stamp{Count: 1, Value: "TenantId=" + h.TenantID.Value + ";Ip=[" + strangerAddress.String() + "];Helo=[" + strangerName + "]"}
			return true
		}},
		{"written by nobody of the tenant (anonymous)", func(t *trialOf, _ *org.Source) bool {
			t.evidence.Header.AuthAs = attribution.Stamp{Count: 1, Value: "Anonymous"}
			t.evidence.Header.Entity = attribution.Stamp{Count: 1, Value: "Internet"}
			return true
		}},
	},
	org.Google: {
		{"without the secret", func(t *trialOf, _ *org.Source) bool { t.evidence.Header.Secrets = nil; return true }},
		{"with a wrong secret", wrongSecret},
		{"without the organisation's own signature", func(t *trialOf, _ *org.Source) bool { t.evidence.Signatures = nil; return true }},
		{"with a signature of the week before", func(t *trialOf, _ *org.Source) bool {
			t.evidence.Signatures = slices.Clone(t.evidence.Signatures)
			for i := range t.evidence.Signatures {
				t.evidence.Signatures[i].Signed = t.evidence.Signatures[i].Signed.AddDate(0, 0, -7)
			}
			return true
		}},
		{"in the clear", inTheClear},
	},
	org.Credential: {
		{"from elsewhere, under a user name that nobody has", func(t *trialOf, _ *org.Source) bool {
			t.elsewhere()
			t.evidence.Username = "probe@" + strangerName
			return true
		}},
		{"signed in as somebody else", func(t *trialOf, s *org.Source) bool {
			for o := range t.dir.Organisations() {
				for _, other := range o.Sources {
					if other.Kind == org.Credential && other.Organisation != s.Organisation {
						t.elsewhere()
						t.evidence.Username = other.Username
						return true
					}
				}
			}
			return false
		}},
		{"without the second proof", func(t *trialOf, s *org.Source) bool { return s.Secret != nil && withoutSecondProof(t, s) }},
	},
	org.Certificate: {
		{"from elsewhere, with a certificate of another key", func(t *trialOf, _ *org.Source) bool {
			t.elsewhere()
			t.evidence.ClientKey = attribution.ClientKey{Present: true, SPKI: [32]byte{0: 0xba, 31: 0xd1}}
			return true
		}},
		{"from elsewhere, with the certificate after its last day", func(t *trialOf, _ *org.Source) bool {
			key := t.evidence.ClientKey
			t.elsewhere()
			key.Expired = true
			t.evidence.ClientKey = key
			return true
		}},
		{"without the second proof", func(t *trialOf, s *org.Source) bool { return s.Secret != nil && withoutSecondProof(t, s) }},
	},
	org.Address: {
		{"without the second proof", func(t *trialOf, s *org.Source) bool { return s.Secret != nil && withoutSecondProof(t, s) }},
	},
}

// elsewhere takes away what the session proves, and leaves what the message says.
func (t *trialOf) elsewhere() {
	t.evidence.Peer, t.evidence.Username, t.evidence.ClientKey = strangerAddress, "", attribution.ClientKey{}
}

// writeAs makes the message one from another domain.
func (t *trialOf) writeAs(domain string) bool {
	a, err := mail.ParseAddress("probe@" + domain)
	if err != nil {
		return false
	}
	t.message.Originators.From.Address, t.message.MailFrom, t.evidence.From = a, a, a.Domain()
	return true
}

func withoutSecondProof(t *trialOf, _ *org.Source) bool {
	t.evidence.Header.Secrets, t.evidence.Signatures = nil, nil
	return true
}

func wrongSecret(t *trialOf, s *org.Source) bool {
	if s.Secret == nil {
		return false
	}
	digest, _ := org.HashSecret(org.NewSecret())
	t.evidence.Header.Secrets = []attribution.Secret{{Name: strings.ToLower(s.Secret.Name), WellFormed: true, Digest: digest}}
	t.evidence.Signatures = nil
	return true
}

func inTheClear(t *trialOf, _ *org.Source) bool { t.evidence.TLS = false; return true }

// spoof tries each way on the evidence of a message that was proven.
func (p *probes) spoof(ctx context.Context, t *trialOf, proof attribution.Proof, now time.Time) (list []api.Spoof) {
	source, ok := t.dir.Source(proof.Organisation(), proof.Source())
	if !ok {
		return nil
	}
	for _, way := range slices.Concat(spoofsOfKind[source.Kind], spoofsOfAll) {
		changed := *t
		if !way.apply(&changed, source) {
			continue
		}
		s := api.Spoof{Way: way.name}
		if _, refusal := p.permit(ctx, &changed, now); refusal != nil {
			s.Refused, s.Reason, s.Detail = true, refusal.Reason(), printable(refusal.Detail())
		}
		list = append(list, s)
	}
	return list
}

// Times of a session that tries to spoof.
const (
	spoofDial    = 5 * time.Second
	spoofSession = 20 * time.Second
)

// spoofOverSMTP is a stranger on this machine: real sessions, without any proof, From
// the organisation's domain.
func (p *probes) spoofOverSMTP(token, decoy, from string) {
	var spoofs []api.Spoof
	whole := true
	for _, l := range p.app.node().Listeners {
		if from == "" || l.Name != "smtp" && l.Name != "smtp_tls" && l.Name != "submission" {
			continue
		}
		way := fmt.Sprintf("over SMTP to %s (%s), without signing in", l.Address, l.Name)
		reply, err := spoofSessionAt(dialable(l.Address), l.Name == "smtp_tls", from, decoy)
		s := api.Spoof{Way: way, Refused: err != nil || reply != "", Reason: reasonIn(reply), Detail: printable(reply)}
		if err != nil {
			whole = false
			s.Detail = printable("no session: " + err.Error())
		}
		spoofs = append(spoofs, s)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if one := p.pending[token]; one != nil {
		one.sessions = true
		p.tellSpoofs(one, true, spoofs, whole && len(spoofs) > 0)
	}
}

// dialable is where a listener can be reached from this machine.
func dialable(address string) string {
	at, err := netip.ParseAddrPort(address)
	if err != nil || !at.Addr().IsUnspecified() {
		return address
	}
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if at.Addr().Is6() {
		loopback = netip.IPv6Loopback()
	}
	return netip.AddrPortFrom(loopback, at.Port()).String()
}

// spoofSessionAt tries to send one message. reply is the refusal; empty: it was taken.
func spoofSessionAt(address string, implicit bool, from, to string) (reply string, err error) {
	// Who the relay is does not matter here: nothing is told to it but a forgery.
	secure := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}
	conn, err := (&net.Dialer{Timeout: spoofDial}).Dial("tcp", address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(spoofSession)); err != nil {
		return "", err
	}
	if implicit {
		conn = tls.Client(conn, secure)
	}
	c, err := smtp.NewClient(conn, strangerName)
	if err != nil {
		return "", err
	}
	if err := c.Hello(strangerName); err != nil {
		return "", err
	}
	if offered, _ := c.Extension("STARTTLS"); offered && !implicit {
		if err := c.StartTLS(secure); err != nil {
			return "", err
		}
	}
	err = spoofMessage(c, from, to)
	var said *textproto.Error
	if errors.As(err, &said) {
		return fmt.Sprintf("%d %s", said.Code, said.Msg), nil
	}
	return "", err
}

func spoofMessage(c *smtp.Client, from, to string) error {
	if err := c.Mail(from); err != nil {
		return err
	}
	if err := c.Rcpt(to); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "From: %s\r\nTo: %s\r\nSubject: spoof\r\nDate: %s\r\nMessage-ID: <spoof@%s>\r\n\r\nNobody's.\r\n", from, to, time.Now().UTC().Format(time.RFC1123Z), strangerName)
	return errors.Join(err, w.Close())
}

// reasonIn finds the reason in a reply of ours: "… [REASON id=…]".
func reasonIn(reply string) mail.Reason {
	_, rest, _ := strings.Cut(reply, "[")
	reason, _, ok := strings.Cut(rest, " id=")
	if !ok {
		return ""
	}
	return mail.Reason(reason)
}
