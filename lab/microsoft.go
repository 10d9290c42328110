package lab

import (
	"fmt"
	"net/netip"
	"strings"

	"anechoic/mail"
)

// Tenant is a customer of the range's Microsoft 365, honest or not.
type Tenant struct {
	GUID       string
	Originator string     // its accepted domain
	Host       netip.Addr // where the provider sends its mail from
	SecretName string     // header its transport rule sets, if it has one
	Secret     string
}

// Route is how a message came to the tenant, which decides what is stamped.
type Route int

// The routes.
const (
	Cloud      Route = iota // written in a mailbox of the tenant
	Hybrid                  // handed over by a server of the tenant's through its connector
	BlindRelay              // the same, by anybody: From is whatever they wrote
	Forward                 // received from outside and forwarded by a rule
)

// Draft is a message before the provider stamps it.
type Draft struct {
	From, To, Subject, MessageID string
	Extra                        []string // further header lines without CRLF
	Body                         string   // lines end in CRLF
}

// text writes header lines and body.
func (d Draft) text(lines []string) []byte {
	lines = append(lines,
		"From: "+d.From, "To: "+d.To, "Subject: "+d.Subject, "Message-ID: "+d.MessageID,
		"Date: Sun, 22 Nov 2026 12:00:00 +0000", "MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8")
	return []byte(strings.Join(append(lines, d.Extra...), "\r\n") + "\r\n")
}

// Plain is the draft as an application writes it.
func (d Draft) Plain() []byte { return append(d.text(nil), "\r\n"+d.Body...) }

// Stamp writes a draft as Microsoft 365 would hand it to a relay: its own stamps
// stand near the end of the header, and whatever the client wrote under those
// names is gone. server is who handed the message to the tenant, for all routes
// but Cloud.
func (t Tenant) Stamp(route Route, d Draft, server netip.Addr) []byte {
	text := append(d.text(t.trace(route, server)), strings.Join(t.stamps(route, server), "\r\n")+"\r\n\r\n"...)
	return append(text, d.Body...)
}

func (t Tenant) trace(route Route, server netip.Addr) []string {
	if route == Cloud {
		return []string{"Received: from VI1PR01.eurprd01.prod.outlook.com ([fe80::1]) by\r\n VI1PR01.eurprd01.prod.outlook.com ([fe80::1%4]) with mapi id 15.20.9000.1; Sun, 22 Nov 2026 12:00:00 +0000"}
	}
	entry := fmt.Sprintf("Received: from mail.sender.example (%s) by\r\n DB1EUR01FT001.mail.protection.outlook.com (10.152.0.1) with Microsoft SMTP\r\n Server (version=TLS1_2) id 15.20.9000.1 via Frontend Transport; Sun, 22 Nov 2026 12:00:00 +0000", server)
	if route == Hybrid {
		return []string{entry, "Received: from desk7 (desk7.corp.example [10.1.2.3])\r\n by mail.sender.example (Postfix) with ESMTP id 4711; Sun, 22 Nov 2026 11:59:59 +0000"}
	}
	return []string{entry, "Received: from vps.attacker.example (PowerMTA v5.0) id h1; Sun, 22 Nov 2026 11:59:59 +0000"}
}

func (t Tenant) stamps(route Route, server netip.Addr) []string {
	lines := []string{"X-OriginatorOrg: " + t.Originator}
	cross := func(name, value string) { lines = append(lines, "X-MS-Exchange-CrossTenant-"+name+": "+value) }
	switch route {
	case Cloud:
		cross("AuthAs", "Internal")
		cross("FromEntityHeader", "Hosted")
		cross("MailboxType", "HOSTED")
		lines = append(lines, "X-MS-Exchange-SenderADCheck: 1")
	case Hybrid, BlindRelay:
		cross("AuthAs", "Anonymous")
		cross("FromEntityHeader", "HybridOnPrem")
		cross("OriginalAttributedTenantConnectingIp", fmt.Sprintf("TenantId=%s;Ip=[%s];Helo=[mail.sender.example]", t.GUID, server))
	case Forward:
		cross("AuthAs", "Anonymous")
		cross("FromEntityHeader", "Internet")
		lines = append(lines, "X-MS-Exchange-SenderADCheck: 0", "X-MS-Exchange-ForwardingLoop: box@"+t.Originator+";"+t.GUID)
	}
	cross("Id", t.GUID)
	if t.SecretName != "" && (route == Cloud || route == Hybrid) {
		lines = append(lines, t.SecretName+": "+t.Secret)
	}
	return lines
}

// Restamp is what the provider makes of a whole message that somebody else wrote
// and signed: its stamps, old ones first taken off, around text that is not
// touched.
func (t Tenant) Restamp(route Route, data []byte, server netip.Addr) ([]byte, error) {
	head, body := split(data)
	header, err := mail.ParseHeader(head, mail.HeaderLimits{})
	if err != nil {
		return nil, fmt.Errorf("lab: restamp: %w", err)
	}
	var text []byte
	for _, line := range t.trace(route, server) {
		text = append(text, line+"\r\n"...)
	}
	for _, f := range header.Fields {
		if !f.Is("X-OriginatorOrg") && !f.HasPrefix("X-MS-Exchange-") {
			text = append(text, f.Raw()...)
		}
	}
	text = append(text, strings.Join(t.stamps(route, server), "\r\n")+"\r\n\r\n"...)
	return append(text, body...), nil
}
