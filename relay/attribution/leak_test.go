package attribution

import (
	"net/netip"
	"testing"

	"anechoic/org"
)

func TestARightSecretInMailOfSomebodyElseHasLeaked(t *testing.T) {
	dir := directory(t)
	stamps := func(tenant, originator string) []string {
		return []string{"X-OriginatorOrg: " + originator, "X-MS-Exchange-CrossTenant-Id: " + tenant}
	}
	secret := "X-Acme-Relay-Key: " + acmeSecret
	for name, c := range map[string]struct {
		header   []string
		username string
		peer     string
		leaked   bool
	}{
		"a stranger's tenant":                       {append(stamps(strangerGUID, "evil.test"), secret), "", "40.107.1.2", true},
		"another organisation's tenant":             {append(stamps(globexTenant, "globex.test"), secret), "", "40.107.1.2", true},
		"its own tenant":                            {append(stamps(acmeTenant, "acme.test"), secret), "", "40.107.1.2", false},
		"its own tenant, with a strange originator": {append(stamps(acmeTenant, "evil.test"), secret), "", "40.107.1.2", false},
		"a new tenant with its originator":          {append(stamps(strangerGUID, "acme.test"), secret), "", "40.107.1.2", false},
		"its own credential":                        {[]string{secret}, "app@acme", "192.0.2.1", false},
		"another organisation's server":             {[]string{secret}, "", "203.0.113.17", true},
		"a wrong secret":                            {append(stamps(strangerGUID, "evil.test"), "X-Acme-Relay-Key: "+org.NewSecret()), "", "40.107.1.2", false},
		"a secret under another name":               {append(stamps(strangerGUID, "evil.test"), "X-Globex-Relay-Key: "+acmeSecret), "", "40.107.1.2", false},
		"no secret":                                 {stamps(strangerGUID, "evil.test"), "", "40.107.1.2", false},
	} {
		t.Run(name, func(t *testing.T) {
			ev := Evidence{Peer: netip.MustParseAddr(c.peer), TLS: true, Username: c.username, PeerName: PeerNameConfirmed, Header: parse(t, dir, c.header...)}
			leak, leaked := Leaked(dir, &ev)
			if leaked != c.leaked {
				t.Errorf("leaked is %t: %+v", leaked, leak)
			}
			if digest, _ := org.HashSecret(acmeSecret); leaked && (leak.Organisation != "acme" || leak.Source != "acme-m365" || leak.Header != "x-acme-relay-key" || leak.Digest != digest) {
				t.Errorf("the leak is %+v", leak)
			}
		})
	}
}
