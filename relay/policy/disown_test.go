package policy

import (
	"net/netip"
	"strings"
	"testing"

	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/attribution"
)

// forwarding is the directory of these tests whose acme has forwarded mail treated so,
// and the proof of a message that its tenant forwarded.
func forwarding(t testing.TB, secret, treated string, changes ...string) (*org.Directory, attribution.Proof) {
	t.Helper()
	digest, ok := org.HashSecret(secret)
	if !ok {
		t.Fatal("no secret")
	}
	text := strings.Replace(registryOf(t, digest), `originator_orgs = ["acme.test"]`, "originator_orgs = [\"acme.test\"]\n  forwarded = \""+treated+`"`, 1)
	dir := build(t, strings.NewReplacer(changes...).Replace(text))
	header, err := mail.ParseHeader([]byte(strings.Join([]string{
		"X-OriginatorOrg: acme.test", "X-MS-Exchange-CrossTenant-Id: " + tenant, "X-MS-Exchange-CrossTenant-AuthAs: Anonymous",
		"X-MS-Exchange-CrossTenant-FromEntityHeader: Internet", "X-Acme-Relay-Key: " + secret, "",
	}, "\r\n")), mail.HeaderLimits{})
	if err != nil {
		t.Fatal(err)
	}
	proof, refusal := attribution.Attribute(dir, &attribution.Evidence{
		Peer: netip.MustParseAddr("40.107.1.2"), TLS: true, PeerName: attribution.PeerNameConfirmed, Header: attribution.ReadHeader(dir, header),
	}, now)
	if refusal != nil {
		t.Fatal(refusal)
	}
	return dir, proof
}

func TestForwardedMailIsDisownedOrRefused(t *testing.T) {
	secret := org.NewSecret()
	dir, proof := forwarding(t, secret, "seal")
	for name, c := range map[string]struct {
		from, mailFrom, sender, resentFrom string
		vouch                              Vouch
		want                               *mail.Refusal
	}{
		"something stands behind it":         {from: "a@free.test", mailFrom: "a@free.test", vouch: Vouched},
		"the server's own Sender and Resent": {from: "a@free.test", mailFrom: "box@acme.test", sender: "box@acme.test", resentFrom: "box@acme.test", vouch: Vouched},
		"nothing does":                       {from: "a@free.test", mailFrom: "a@free.test", want: mail.ForwardedMail},
		"nobody knows now":                   {from: "a@free.test", mailFrom: "a@free.test", vouch: VouchUnknown, want: mail.LookupFailed},
		"the null sender":                    {from: "a@free.test", vouch: Vouched, want: mail.ForwardedMail},
		"its own From":                       {from: "a@acme.test", mailFrom: "a@free.test", vouch: Vouched, want: mail.ForwardedMail},
		"its own From, and nobody knows":     {from: "a@acme.test", mailFrom: "a@free.test", vouch: VouchUnknown, want: mail.ForwardedMail},
		"below its own, which covers none":   {from: "a@x.acme.test", mailFrom: "a@free.test", vouch: Vouched, want: mail.ForwardedMail},
		"deep below its own":                 {from: "a@y.x.acme.test", mailFrom: "a@free.test", vouch: Vouched, want: mail.ForwardedMail},
		"below one that covers":              {from: "a@x.wide.test", mailFrom: "a@free.test", vouch: Vouched, want: mail.ForwardedMail},
		"another organisation's":             {from: "a@globex.test", mailFrom: "a@free.test", vouch: Vouched, want: mail.ForwardedMail},
		"the tenant's own name":              {from: "a@acme.onmicrosoft.com", mailFrom: "a@free.test", vouch: Vouched, want: mail.ForwardedMail},
		"a name that ends like its own":      {from: "a@notacme.test", mailFrom: "a@free.test", vouch: Vouched},
		"another organisation's Sender":      {from: "a@free.test", mailFrom: "a@free.test", sender: "a@globex.test", vouch: Vouched, want: mail.ForwardedMail},
		"another organisation's Resent-From": {from: "a@free.test", mailFrom: "a@free.test", resentFrom: "a@mail.globex.test", vouch: Vouched, want: mail.ForwardedMail},
		"no From at all":                     {mailFrom: "a@free.test", vouch: Vouched, want: mail.FromNotSingle},
	} {
		t.Run(name, func(t *testing.T) {
			m := &Message{MailFrom: address(c.mailFrom), Originators: mail.Originators{From: mail.Mailbox{Address: address(c.from)}}}
			if c.sender != "" {
				m.Originators.Sender = []mail.Address{address(c.sender)}
			}
			if c.resentFrom != "" {
				m.Originators.ResentFrom = []mail.Address{address(c.resentFrom)}
			}
			warrant, refusal := Disown(dir, proof, m, c.vouch)
			if (refusal == nil) == warrant.IsZero() || (refusal == nil) != (c.want == nil) || c.want != nil && refusal.Reason() != c.want.Reason() {
				t.Errorf("%v, want %v", refusal, c.want)
			}
			if refusal == nil && (warrant.Organisation() != "acme" || warrant.Proof().Source() != "m365") {
				t.Errorf("%+v", warrant)
			}
		})
	}
}

func TestOnlySourcesThatSealHaveForwardedMailPassedOn(t *testing.T) {
	secret := org.NewSecret()
	message := &Message{MailFrom: address("a@free.test"), Originators: mail.Originators{From: mail.Mailbox{Address: address("a@free.test")}}}
	for _, treated := range []string{"reject", "hold", "seal"} {
		dir, proof := forwarding(t, secret, treated)
		warrant, refusal := Disown(dir, proof, message, Vouched)
		if want := treated == "seal"; Seals(dir, proof) != want || (refusal == nil) != want || warrant.IsZero() == want {
			t.Errorf("%s: %v", treated, refusal)
		}
	}
	dir, proof := forwarding(t, secret, "seal")
	changed := map[string]*org.Directory{}
	changed["the source says hold now"], _ = forwarding(t, secret, "hold")
	changed["From is registered now"], _ = forwarding(t, secret, "seal", `name = "globex.test"`, `name = "free.test"`)
	other := org.NewSecret()
	changed["another secret now"], _ = forwarding(t, other, "seal")
	for name, now := range changed {
		if _, refusal := Disown(now, proof, message, Vouched); refusal == nil {
			t.Errorf("%s: still passed on", name)
		}
	}
	hosted, byCredential := proofs(t, dir, secret)
	for _, p := range []attribution.Proof{hosted, byCredential, {}} {
		if warrant, refusal := Disown(dir, p, message, Vouched); refusal == nil || !warrant.IsZero() || Seals(dir, p) {
			t.Errorf("what was not forwarded is disowned: %+v", p)
		}
	}
}
