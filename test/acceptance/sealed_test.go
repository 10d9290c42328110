package acceptance

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"strings"
	"sync"
	"time"

	"anechoic/lab"
	"anechoic/mail"
	"anechoic/mail/dns"
	"anechoic/standard/arc"
	"anechoic/standard/authres"
	"anechoic/standard/dkim"
)

// Sealers, by the names of their keys: Microsoft with one key that DNS has, one whose
// look-up fails and one that was never published; a mailing list; a stranger.
const (
	microsoftSeal = "arcselector10001._domainkey.microsoft.com"
	slowSeal      = "arcslow._domainkey.microsoft.com"
	unknownSeal   = "arcunknown._domainkey.microsoft.com"
	listSeal      = "arc._domainkey.lists.test"
	strangerSeal  = "arc._domainkey.attacker.test"
)

// sealKey is the key of all of them: what differs is whose it is said to be.
var sealKey = sync.OnceValue(func() crypto.Signer {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// sealZone is what sealers look the older seals' keys up in.
var sealZone = sync.OnceValue(func() *dns.Zone {
	zone := new(dns.Zone)
	for _, name := range []string{microsoftSeal, slowSeal, unknownSeal, listSeal, strangerSeal} {
		zone.SetTXT(name, dkim.RecordValue(sealKey().Public()))
	}
	return zone
})

// publishSealers puts their keys up.
func publishSealers(n *lab.Internet) {
	for _, name := range []string{microsoftSeal, slowSeal, listSeal, strangerSeal} {
		n.Publish(name, dkim.RecordValue(sealKey().Public()))
	}
	n.Zone.SetFault(slowSeal, true)
}

// sawFail is what Microsoft writes of a message from outside that claims a From it is
// not from; sawPass of one from outside that is; sawInside of what one of its
// mailboxes wrote.
func sawFail(from string) string {
	return "mx.microsoft.com 1; spf=fail (sender ip is " + vps + ") smtp.rcpttodomain=acme.test smtp.mailfrom=" + from +
		"; dmarc=fail (p=none sp=none pct=100) action=none header.from=" + from + "; dkim=none (message not signed); arc=none (0)"
}

func sawPass(from string) string {
	return "mx.microsoft.com 1; spf=pass (sender ip is " + partner + ") smtp.rcpttodomain=acme.test smtp.mailfrom=" + from +
		"; dmarc=pass (p=reject sp=reject pct=100) action=none header.from=" + from + "; dkim=pass (signature was verified) header.d=" + from + "; arc=none (0)"
}

func sawInside(from string) string {
	return "mx.microsoft.com 1; spf=pass smtp.mailfrom=" + from + "; dmarc=pass action=none header.from=" + from + "; dkim=pass header.d=" + from + "; arc=none"
}

// sealed adds a set of Microsoft's that says so.
func (l letter) sealed(words string) letter { return l.sealedBy(microsoftSeal, words) }

// sealedBy adds the next set of a chain, by a genuine seal.
func (l letter) sealedBy(name, words string) letter {
	head, body, _ := strings.Cut(l.data, "\r\n\r\n")
	header, err := mail.ParseHeader([]byte(head+"\r\n"), mail.HeaderLimits{})
	if err != nil {
		panic(err)
	}
	hasher := dkim.NewBodyHasher(header)
	hasher.Write([]byte(body))
	selector, at, _ := strings.Cut(name, "._domainkey.")
	results, err := authres.Parse([]byte(words))
	if err != nil {
		panic(err)
	}
	chain := arc.Validate(context.Background(), sealZone(), header, hasher.Sum(), time.Now())
	set, err := arc.Seal(header, hasher.Sum(), chain, results, dkim.Signer{Domain: domain(at), Selector: selector, Key: sealKey()}, time.Now())
	if err != nil {
		panic(err)
	}
	for i := len(set) - 1; i >= 0; i-- {
		l.data = string(set[i].Raw()) + l.data
	}
	return l
}

// sealBroken spoils the newest seal.
func (l letter) sealBroken() letter {
	at := strings.Index(l.data, "ARC-Seal:")
	end := at + strings.Index(l.data[at:], "ARC-Message-Signature:")
	seal := l.data[at:end]
	last := len(strings.TrimRight(seal, "\r\n= \t")) - 4
	other := "AAAA"
	if seal[last:last+4] == other {
		other = "BBBB"
	}
	l.data = l.data[:at] + seal[:last] + other + seal[last+4:] + l.data[end:]
	return l
}

// contradictedVariants are mail that a mailbox or a listed server seems to have
// written, and of which Microsoft saw that it did not.
func contradictedVariants() []variant {
	ann := "Ann <ann@acme.test>"
	hosted := func() letter { return mailFromMicrosoft(acme, ann) }
	listed := mailThrough(acme, lab.Hybrid, hybrid, ann)
	no := func(name string, l letter) variant { return no(name, mail.OriginContradicted, l) }
	return []variant{
		no("stamped as hosted, and Microsoft saw DMARC fail", hosted().sealed(sawFail("acme.test"))),
		no("through a listed server, and Microsoft saw DMARC fail", listed.sealed(sawFail("acme.test"))),
		no("changed after it was sealed: the seal accuses all the same", hosted().sealed(sawFail("acme.test")).body("another body\r\n")),
		no("with a stranger's genuine set below", hosted().sealedBy(strangerSeal, sawInside("acme.test")).sealed(sawFail("acme.test"))),
		no("with a list's genuine set above", hosted().sealed(sawFail("acme.test")).sealedBy(listSeal, "lists.test; arc=pass; dmarc=pass header.from=acme.test")),
		no("Microsoft saw it pass later", hosted().sealed(sawFail("acme.test")).sealed(sawInside("acme.test"))),
		no("Microsoft saw it fail later", hosted().sealed(sawInside("acme.test")).sealed(sawFail("acme.test"))),
		no("as the tenant's provider domain", mailFromMicrosoft(acme, "ann@acme.onmicrosoft.com").sealed(sawFail("acme.onmicrosoft.com"))),
		no("as a sub-domain that covers", mailFromMicrosoft(acme, "ann@news.acme-sub.test").sealed(sawFail("news.acme-sub.test"))),
		no("From in capitals", mailFromMicrosoft(acme, "Ann <ann@ACME.Test>").sealed(strings.Replace(sawFail("acme.test"), "header.from=acme.test", "header.from=Acme.TEST", 1))),
	}
}

// uncontradictedVariants: a chain that passes changes nothing, nor one about somebody
// else.
func uncontradictedVariants() []variant {
	hosted := func() letter { return mailFromMicrosoft(acme, "Ann <ann@acme.test>") }
	return []variant{
		yes("Microsoft saw it pass", hosted().sealed(sawInside("acme.test")), acmeTest, acmeTest),
		yes("Microsoft saw another From fail", hosted().sealed(sawFail("elsewhere.test")), acmeTest, acmeTest),
		yes("a list says that it failed: nobody asked it", hosted().sealedBy(listSeal, "lists.test; dmarc=fail header.from=acme.test"), acmeTest, acmeTest),
		no("what the class refuses keeps its reason", mail.ForwardedMail, mailThrough(acme, lab.Forward, vps, "Ann <ann@acme.test>").topped(acme.SecretName+": "+acmeSecret).sealed(sawFail("acme.test"))),
		no("without the secret: that comes first", mail.SecondProofMissing, hosted().headless(acme.SecretName).sealed(sawFail("acme.test"))),
	}
}

// forgedChains count as absent: they accuse nobody, and rescue nobody.
func forgedChains() []variant {
	ann, secret := "Ann <ann@acme.test>", acme.SecretName+": "+acmeSecret
	hosted := func() letter { return mailFromMicrosoft(acme, ann) }
	forwarded := func() letter { return mailThrough(acme, lab.Forward, vps, ann).topped(secret) }
	fails, passes := sawFail("acme.test"), sawPass("acme.test")
	return []variant{
		yes("a spoilt seal accuses nobody", hosted().sealed(fails).sealBroken(), acmeTest, acmeTest),
		yes("cv=fail: the chain is nobody's any more", hosted().sealed(sawInside("acme.test")).sealBroken().sealed(fails), acmeTest, acmeTest),
		yes("a stranger's seal under Microsoft's name for results", hosted().sealedBy(strangerSeal, fails), acmeTest, acmeTest),
		yes("a key of Microsoft's that was never published", hosted().sealedBy(unknownSeal, fails), acmeTest, acmeTest),
		yes("words without a seal", hosted().topped("ARC-Authentication-Results: i=1; "+fails), acmeTest, acmeTest),
		yes("a set that lost its message signature", hosted().sealed(fails).headless("ARC-Message-Signature"), acmeTest, acmeTest),
		yes("words that were exchanged", hosted().sealed(strings.Replace(fails, "dmarc=fail", "dmarc=none", 1)).edited("dmarc=none", "dmarc=fail"), acmeTest, acmeTest),
		no("a key that cannot be looked up, where it would decide", mail.LookupFailed, hosted().sealedBy(slowSeal, fails)),
		yes("a key that cannot be looked up, where it would not", hosted().sealedBy(slowSeal, passes), acmeTest, acmeTest),
		no("a genuine seal that praises a spoof rescues nothing", mail.ForwardedMail, forwarded().sealed(passes)),
		no("nor under hosted words", mail.ForwardedMail, forwarded().sealed(sawInside("acme.test"))),
		no("nor a spoilt one", mail.ForwardedMail, forwarded().sealed(passes).sealBroken()),
		no("nor a stranger's", mail.ForwardedMail, forwarded().sealedBy(strangerSeal, passes)),
		no("nor another's tenant", mail.TenantNotAuthorized, mailFromMicrosoft(attacker, ann).sealed(sawInside("acme.test"))),
		no("nor mail without stamps", mail.AttributionMissing, hosted().headless("X-OriginatorOrg").headless("X-MS-Exchange-CrossTenant-Id").sealed(sawInside("acme.test"))),
		no("nor mail without the secret", mail.SecondProofMissing, hosted().headless(acme.SecretName).sealed(sawInside("acme.test"))),
		early(atRcpt, "nor a stranger's connection", mail.RelayDenied, mailFromNobody(vps, ann).sealed(sawInside("acme.test"))),
	}
}
