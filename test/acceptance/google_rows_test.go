package acceptance

import (
	"strings"
	"testing"
	"time"

	"anechoic/lab"
	"anechoic/mail"
)

// googleRows: sources of kind google, and signatures as a second proof.
func googleRows() []row {
	const willy = "Willy <willy@wonka.test>"
	missing := mail.SecondProofMissing
	honest := func(extra ...string) letter { return mailFromGoogle(wonka, willy, extra...) }
	unsigned := func(extra ...string) letter { return mailFromGoogleUnsigned(wonka, willy, extra...) }
	short := func() letter { return unsigned().body("Hello\r\n") }
	const wonkaTest = "wonka.test"
	return []row{
		{id: "A33", scenario: "a signature that is no proof", variants: []variant{
			yes("google: the forger's signature with nothing wrong", unsigned().forged(forgery{}), wonkaTest, wonkaTest),
			no("google: l= that covers the whole body", missing, short().forged(forgery{tags: " l=7;"})),
			no("google: l=0", missing, short().forged(forgery{tags: " l=0;"})),
			no("google: From is not signed", missing, unsigned().forged(forgery{names: []string{"to", "subject", "date", "message-id"}})),
			no("google: the key is for testing", missing, unsigned().forged(forgery{key: "testing._domainkey.wonka.test"})),
			no("google: 512 bits", missing, unsigned().forged(forgery{key: "weak._domainkey.wonka.test"})),
			no("google: the key was revoked", missing, unsigned().forged(forgery{key: "revoked._domainkey.wonka.test"})),
			no("google: a key for other services", missing, unsigned().forged(forgery{key: "reports._domainkey.wonka.test"})),
			no("google: expired", missing, unsigned().forged(forgery{tags: " x=1500000000;", signed: time.Unix(1400000000, 0)})),
			no("google: signed yesterday", missing, unsigned().forged(forgery{signed: time.Now().Add(-25 * time.Hour)})),
			no("google: signed tomorrow", missing, unsigned().forged(forgery{signed: time.Now().Add(time.Hour)})),
			no("google: it does not say when", missing, unsigned().forged(forgery{silent: true})),
			no("google: changed after signing", missing, honest().edited("Subject: your invoice", "Subject: my invoice")),
			no("google: the body was changed after signing", missing, honest().edited("bye", "buy")),
			no("google: a From of another was signed", missing, honest().edited("willy@wonka.test>", "ceo@acme.test>")),
			yes("microsoft365: the forger's signature with nothing wrong", aliased().forged(forgery{key: "google._domainkey.globex.test"}), "globex.test", "globex.test"),
			no("microsoft365: l=", missing, aliased().body("Hello\r\n").forged(forgery{key: "google._domainkey.globex.test", tags: " l=7;"})),
			no("microsoft365: From is not signed", missing, aliased().forged(forgery{key: "google._domainkey.globex.test", names: []string{"to", "subject"}})),
			no("microsoft365: the key is for testing", missing, aliased().forged(forgery{key: "testing._domainkey.globex.test"})),
			no("microsoft365: 512 bits", missing, aliased().forged(forgery{key: "weak._domainkey.globex.test"})),
			no("microsoft365: expired", missing, aliased().forged(forgery{key: "google._domainkey.globex.test", tags: " x=1500000000;", signed: time.Unix(1400000000, 0)})),
			no("microsoft365: the record is in the customer's own zone", missing, aliased().forged(forgery{key: "own._domainkey.globex.test"})),
			no("microsoft365: another tenant's provider domain", missing, aliased().forged(forgery{key: "google._domainkey.evil123.onmicrosoft.com"})),
		}},
		{id: "A51", scenario: "Google sharing", variants: []variant{
			yes("both proofs", honest(), wonkaTest, wonkaTest),
			yes("over IPv6", honest().peerIs(gmailIPv6), wonkaTest, wonkaTest),
			yes("a second domain with its own key", mailFromGoogleUnsigned(wonka, "x@a-b.test").byGoogle("a-b.test"), "a-b.test", "a-b.test"),
			yes("a signature of Google's own beside", unsigned().forged(forgery{key: "20230601._domainkey." + collision}).byGoogle("wonka.test"), wonkaTest, wonkaTest, collision),
			no("the address alone", missing, mailFromNobody(gmail, willy)),
			no("as acme, which is not at Google", missing, mailFromNobody(gmail, "ceo@acme.test")),
			no("the secret alone", missing, unsigned()),
			no("the signature alone", missing, honest().headless(wonka.secretName)),
			no("a wrong secret", missing, honest().edited(wonkaSecret, "anx1_3abigakvquj4hqwgnv7k4x7gvhi")),
			no("the secret twice", missing, honest().topped(wonka.secretName+": "+wonkaSecret)),
			no("the secret of a tenant of Microsoft's", missing, honest().headless(wonka.secretName).topped(acme.SecretName+": "+acmeSecret)),
			no("gappssmtp of the same name: a-b.test", missing, mailFromGoogleUnsigned(wonka, "x@a-b.test").forged(forgery{key: "20230601._domainkey." + collision})),
			no("gappssmtp of the same name: a.b.test, with wonka's secret", missing, mailFromGoogleUnsigned(wonka, "x@a.b.test").forged(forgery{key: "20230601._domainkey." + collision})),
			no("gappssmtp of the same name: a.b.test, with its own secret", missing, mailFromGoogleUnsigned(oompa, "x@a.b.test").forged(forgery{key: "20230601._domainkey." + collision})),
			no("a-b.test signs, a.b.test is in From", missing, mailFromGoogleUnsigned(wonka, "x@a.b.test").byGoogle("a-b.test")),
			no("a selector that is not listed", missing, unsigned().forged(forgery{key: "unlisted._domainkey.wonka.test"})),
			no("our own key", missing, unsigned().signed("wonka.test", "an1e", keys()["wonka.test/an1e"])),
			no("not aligned: another domain of the organisation signs", missing, unsigned().byGoogle("a-b.test")),
			no("another customer's From", missing, mailFromGoogle(wonka, "ceo@acme.test")),
			no("wonka's secret, oompa's signature", mail.AttributionConflict, mailFromGoogleUnsigned(wonka, "x@oompa.test").byGoogle("oompa.test")),
			no("wonka's secret and signature, oompa's secret", mail.AttributionConflict, honest().topped(oompa.secretName+": "+oompaSecret)),
			no("wonka's secret and signature, acme's certificate", mail.AttributionConflict, honest().showing(certificateOf("gateway", time.Hour))),
			no("wonka's secret and signature, acme's credential", mail.AttributionConflict, honest().authenticated("app@acme")),
			no("Microsoft's stamps prove nothing at Google", missing, mailFromMicrosoft(acme, "ann@acme.test").peerIs(gmail)),
			no("another customer in MAIL FROM", mail.SenderNotOwned, honest().sender("ceo@acme.test")),
			yes("a client of its own at Google's", mailFromUser("app@acme", "ann@acme.test").peerIs(gmail), acmeTest, acmeTest),
			early(atRcpt, "without TLS", mail.ProviderNeedsTLS, honest().inPlainText()),
			early(atRcpt, "both proofs from elsewhere", mail.RelayDenied, honest().peerIs(vps)),
			no("both proofs from Microsoft's", mail.AttributionMissing, honest().peerIs(eop)),
			does("the key cannot be looked up", func(t *testing.T, _ *relay) {
				outage(t, "google._domainkey.wonka.test", mailFromGoogle(wonka, willy), mail.ReasonLookupFailed)
			}),
			refusesRegistry("the registry lists a name that Google made", edit(`{ domain = "a-b.test", selectors = ["google"] }`, `{ domain = "`+collision+`", selectors = ["20230601"] }`), collision),
			refusesRegistry("the registry lists another organisation's domain", edit(`{ domain = "a-b.test", selectors = ["google"] }`, `{ domain = "a.b.test", selectors = ["google"] }`), "not a domain of organisation wonka"),
			refusesRegistry("the registry has no secret", func(r string) string {
				start := strings.Index(r, `secret_header = { name = "X-Wonka-Relay-Key"`)
				return r[:start] + r[start+strings.Index(r[start:], "\n"):]
			}, "secret header"),
		}},
		{id: "A60", scenario: "forwarded through Google", variants: []variant{
			no("X-Forwarded-To", mail.ForwardedMail, honest("X-Forwarded-To: victim@mailbox.test")),
			no("X-Forwarded-For", mail.ForwardedMail, honest("x-forwarded-for: willy@wonka.test victim@mailbox.test")),
			no("X-Forwarded-Encrypted", mail.ForwardedMail, honest("X-Forwarded-Encrypted: i=1; AJvY")),
			no("X-Forwarded-To with an empty value", mail.ForwardedMail, honest("X-Forwarded-To:")),
			no("added after signing", mail.ForwardedMail, honest().topped("X-Forwarded-To: victim@mailbox.test")),
			no("of a foreign From: it has no aligned signature", missing, mailFromGoogleUnsigned(wonka, "someone@gmail.test", "X-Forwarded-To: victim@mailbox.test").sender("willy@wonka.test")),
			no("of a foreign From that Google signs as the forwarder", missing, mailFromGoogle(wonka, "someone@gmail.test").sender("willy@wonka.test")),
			no("a spoof of the customer that came from outside", missing, unsigned("X-Forwarded-To: victim@mailbox.test", "X-Forwarded-For: willy@wonka.test victim@mailbox.test")),
			no("a spoof without a trace of it", missing, unsigned()),
			no("a spoof with the signature of an older message", missing, unsigned().forged(forgery{signed: time.Now().Add(-48 * time.Hour)})),
		}},
	}
}

// aliased is globex's mail, whose second proof is a signature by Microsoft.
func aliased() letter {
	return mailFromMicrosoft(lab.Tenant{GUID: globex.GUID, Originator: globex.Originator}, "ceo@globex.test")
}
