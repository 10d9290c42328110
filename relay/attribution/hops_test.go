package attribution

import (
	"net/netip"
	"testing"
)

// TestTheAddressOfAHopIsWhatItsWriterSaw has the forms of servers that many
// organisations run, and what a client can make of each by the name it gives.
func TestTheAddressOfAHopIsWhatItsWriterSaw(t *testing.T) {
	const stranger, desk = "203.0.113.5", "10.1.2.3"
	for v, want := range map[string]struct {
		from string // empty: none is stated
		over bool
	}{
		"from desk.acme.test (desk.acme.test [10.1.2.3])\n by mail.acme.test (Postfix) with ESMTPS id 4711":                          {desk, true},
		"from [10.1.2.3] (unknown [203.0.113.5]) by mail.acme.test (Postfix) with ESMTP id 1":                                        {stranger, true},
		"from [10.1.2.3](helo=x) (unknown [203.0.113.5]) by mail.acme.test (Postfix) with ESMTP id 1":                                {stranger, true},
		"from x(10.1.2.3) (unknown [203.0.113.5]) by mail.acme.test (Postfix) with ESMTP id 1":                                       {"", true},
		"from by (unknown [203.0.113.5]) by mail.acme.test (Postfix) with ESMTP id 1":                                                {"", true},
		"by mail.acme.test (Postfix, from userid 1000) id 4711":                                                                      {"", false},
		"from x (10.1.2.3 [203.0.113.5] (may be forged)) by mail.acme.test (8.17.1/8.17.1) with ESMTP id 1":                          {"", true},
		"(from root@localhost) by mail.acme.test (8.17.1/8.17.1/Submit) id 4711":                                                     {"", false},
		"from [10.1.2.3] (helo=desk)\n by mail.acme.test with esmtps (TLS1.3) (Exim 4.96) (envelope-from <a@acme.test>) id 1-2":      {desk, true},
		"from [10.1.2.3]:4711 (helo=desk) by mail.acme.test with esmtp (Exim 4.96) id 1-2":                                           {desk, true},
		"from [10.1.2.3] by mail.acme.test with esmtp (Exim 4.96) id 1-2":                                                            {desk, true},
		"from [203.0.113.5] (helo=[10.1.2.3]) by mail.acme.test with esmtp (Exim 4.96) id 1-2":                                       {stranger, true},
		"from evil.example ([203.0.113.5] helo=[10.1.2.3]) by mail.acme.test with esmtp (Exim 4.96) id 1-2":                          {stranger, true},
		"from evil.example ([203.0.113.5] helo=x ident=10.1.2.3) by mail.acme.test with esmtp (Exim 4.96) id 1-2":                    {stranger, true},
		"from www-data by mail.acme.test with local (Exim 4.96) (envelope-from <www@acme.test>) id 1-2":                              {"", false},
		"from www-data by mail.acme.test with local id 1":                                                                            {"", true},
		"from somewhere by mail.acme.test with esmtp (Exim 4.96) id 1-2":                                                             {"", true},
		"from unknown (HELO 10.1.2.3) (203.0.113.5) by 0 with SMTP; 22 Nov 2026 12:00:00 -0000":                                      {stranger, true},
		"from [10.1.2.3] by sloppy.acme.test with SMTP":                                                                              {"", true},
		"from [10.1.2.3](helo=x) by sloppy.acme.test with SMTP":                                                                      {"", true},
		"from A.acme.test (2001:db8::7) by B.acme.test (2001:db8::8) with Microsoft SMTP Server (version=TLS1_2) id 15.2.1":          {"2001:db8::7", true},
		"from A.acme.test (2001:db8::7) by B.acme.test (2001:db8::8) with Microsoft SMTP Server id 15.2.1 via Frontend Transport;  ": {"2001:db8::7", true},
	} {
		var from netip.Addr
		if want.from != "" {
			from = netip.MustParseAddr(want.from)
		}
		if h := readHop(v); h.From != from || h.Over != want.over {
			t.Errorf("%s\n is from %v (over a network: %v), want %q (%v)", v, h.From, h.Over, want.from, want.over)
		}
	}
}
