package acceptance

import (
	"testing"

	"anechoic/mail"
)

// laterRows wait for parts of the program that are not written yet.
func laterRows() []row {
	return []row{
		{id: "A20", scenario: "secrets in output", variants: []variant{
			does("after everything before it, nowhere; again at the end of the matrix", noSecrets),
			does("not in what the API answers", noSecretsInAnswers),
			does("not in what the validator says", noSecretsInProblems),
			does("not in the files of the data directory", noSecretsInFiles),
		}},
		contentRow(),
		{id: "A34", scenario: "forged ARC", variants: append(forgedChains(), []variant{
			no("a seal that claims Microsoft rescues nothing", mail.TenantNotAuthorized, mailFromMicrosoft(attacker, "ann@acme.test").topped(
				"ARC-Seal: i=1; a=rsa-sha256; cv=none; d=microsoft.com; s=arcselector10001; b=AAAA",
				"ARC-Authentication-Results: i=1; mx.microsoft.com 1; spf=pass smtp.mailfrom=acme.test; dmarc=pass header.from=acme.test")),
		}...)},
		{id: "A35", scenario: "spoofed Authentication-Results", variants: []variant{
			does("with our own name, in mail that comes in", func(t *testing.T, _ *relay) { nobodyElsesWordStandsInOurName(t) }),
			no("with our own name, through the attacker's tenant", mail.TenantNotAuthorized, mailFromMicrosoft(attacker, "ann@acme.test").topped("Authentication-Results: relay.anechoic.test; dmarc=pass; dkim=pass header.d=acme.test")),
		}},
		{id: "A42", scenario: "inbound and outbound on one address", variants: []variant{
			does("the recipient and the proof decide", func(t *testing.T, _ *relay) { oneAddressIsInboundAndOutbound(t) }),
			does("mail of one customer to another", func(t *testing.T, _ *relay) { mailOfOneCustomerToAnother(t) }),
		}},
		{id: "A43", scenario: "inbound spoof of one's own domain", variants: []variant{
			early(atRcpt, "where no mail comes in for the organisation", mail.RelayDenied, mailFromNobody(vps, "ann@acme.test").recipients("bob@acme.test")),
			does("where it does", func(t *testing.T, _ *relay) { ownDomainsAreProtected(t, "A43") }),
		}},
		{id: "A45", scenario: "SRS and BATV abuse", variants: []variant{
			does("forged, expired and other addresses at the forwarding domain", theForwardingDomainTakesNothingButReports),
			does("genuine ones lead reports back", reportsFindBackToWhoSentForwardedMail),
		}},
		{id: "A47", scenario: "limit evasion", variants: append(floodVariants(), evasions()...)},
		{id: "A54", scenario: "reads across organisations", pending: "API tokens"},
		{id: "A55", scenario: "end-to-end encryption", pending: "openpgp and smime"},
		{id: "A56", scenario: "learn and hold", variants: learnAndHold()},
		{id: "A57", scenario: "echo by the inbound door", variants: []variant{
			does("whatever the DMARC policy", func(t *testing.T, _ *relay) { ownDomainsAreProtected(t, "A57") }),
		}},
	}
}
