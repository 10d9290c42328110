package acceptance

import (
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"

	"anechoic/ledger"
	"anechoic/mail"
)

// receptionRows: what is a command, what is a message, who is the peer?
func receptionRows() []row {
	app := func() letter { return mailFromUser("app@acme", "ann@acme.test") }
	stranger := func() letter { return mailFromNobody(vps, "ann@acme.test") }
	denied := mail.RelayDenied
	return []row{
		{id: "A36", scenario: "smuggling", variants: []variant{
			does("no sequence but one ends the data, on any listener", smuggling),
			does("at every split into two writes", smugglingSplit),
			does("behind a complete message in one write", smugglingPipelined),
			no("bare CR in the header", mail.BareNewline, app().topped("X-A: b\rFrom: ceo@globex.test")),
			no("bare LF in the header", mail.BareNewline, app().topped("X-A: b\nFrom: ceo@globex.test")),
			no("NUL in the header", mail.BareNewline, app().topped("X-A: b\x00c")),
			no("bare LF in the body", mail.BareNewline, app().body("a\nb\r\n")),
			no("bare CR in the body", mail.BareNewline, app().body("a\rb\r\n")),
			no("bare CR before CRLF", mail.BareNewline, app().body("a\r\r\n")),
			yes("dots and everything that only looks like an end", app().body(".\r\n..\r\n...\r\n. \r\n.x\r\n.\r\n MAIL FROM:<x@y>\r\nDATA\r\n.\r\n"), acmeTest, acmeTest),
			yes("no line in the body", app().body(""), acmeTest, acmeTest),
			does("commands before the 354", commandsBeforeData),
		}},
		{id: "A38", scenario: "STARTTLS injection, AUTH in clear, downgrade", variants: []variant{
			does("commands behind STARTTLS in one write", starttlsInjection),
			does("AUTH is not offered and not taken in clear", authInClear),
			does("STARTTLS with an argument", func(t *testing.T, r *relay) {
				c := r.as(t, vps).greeted()
				c.must(250, "EHLO sender.test")
				if answer := c.cmd("STARTTLS now"); answer.code != 501 {
					t.Error(answer)
				}
			}),
			does("STARTTLS inside a transaction by chunks is text", func(t *testing.T, r *relay) {
				c := r.as(t, onprem).greeted()
				c.must(250, "EHLO sender.test")
				c.must(250, "MAIL FROM:<ann@acme.test>")
				c.must(250, "RCPT TO:<victim@mailbox.test>")
				c.write(chunk("X: y\r\n\r\nSTARTTLS\r\n") + "RSET\r\n")
				for range 2 {
					if answer := c.reply(); answer.code != 250 {
						t.Error(answer)
					}
				}
			}),
			does("AUTH with commands behind its response", func(t *testing.T, r *relay) {
				c := r.as(t, vps).greeted().secured()
				c.write("AUTH PLAIN\r\n" + plainResponse("app@acme", "guess") + "\r\nMAIL FROM:<ann@acme.test>\r\nRCPT TO:<victim@mailbox.test>\r\n")
				for _, code := range []int{334, 535, 250, 550} {
					if answer := c.reply(); answer.closed || answer.code != code {
						t.Fatalf("%s, want %d", answer, code)
					}
				}
			}),
			does("what was said before TLS is forgotten", forgottenByTLS),
			does("the submission port wants TLS, then AUTH", submissionWants),
			early(atRcpt, "a provider's peer in clear", mail.ProviderNeedsTLS, mailFromMicrosoft(acme, "ann@acme.test").inPlainText()),
			does("STARTTLS twice", func(t *testing.T, r *relay) {
				c := r.as(t, vps).greeted().secured()
				if answer := c.cmd("STARTTLS"); answer.code != 503 {
					t.Error(answer)
				}
			}),
			does("AUTH twice", func(t *testing.T, r *relay) {
				c := r.as(t, office).greeted().secured().login("app@acme")
				if answer := c.cmd("AUTH PLAIN " + plainResponse("app@globex", passwords["app@globex"])); answer.code != 503 || answer.reason != mail.ReasonBadSequence {
					t.Error(answer)
				}
			}),
			does("plain text on the TLS port", func(t *testing.T, r *relay) {
				c := r.connectWithout(t, tlsPort)
				c.write("EHLO sender.test\r\n")
				if answer := c.reply(); answer.code != 521 || !c.gone() {
					t.Error(answer)
				}
			}),
		}},
		{id: "A39", scenario: "command injection in addresses", variants: addressVariants()},
		{id: "A41", scenario: "open relay", variants: []variant{
			early(atRcpt, "a stranger", denied, stranger()),
			early(atRcpt, "a stranger in clear", denied, stranger().inPlainText()),
			early(atRcpt, "on the plain port, from loopback", denied, stranger().through(plainPort)),
			early(atRcpt, "on the TLS port, from loopback", denied, stranger().through(tlsPort)),
			early(atMail, "on the submission port", mail.AuthRequired, stranger().through(submission)),
			early(atRcpt, "with the null sender", denied, stranger().sender("")),
			early(atRcpt, "to a customer's domain", denied, stranger().recipients("ann@globex.test")),
			early(atRcpt, "to the sender's own domain", denied, stranger().recipients("ann@acme.test")),
			early(atRcpt, "by a percent route", denied, stranger().recipients("victim%mailbox.test@relay.anechoic.test")),
			early(atRcpt, "by a bang path in quotes", denied, stranger().recipients(`"mailbox.test!victim"@acme.test`)),
			early(atRcpt, "to our postmaster", denied, stranger().recipients("postmaster")),
			early(atRcpt, "from our own egress address", denied, stranger().peerIs("127.0.0.1")),
			early(atRcpt, "from a private address", denied, stranger().peerIs("10.1.2.3")),
			early(atRcpt, "from our own domain", denied, stranger().sender("postmaster@relay.anechoic.test")),
			early(atRcpt, "with every proof in the header", denied, mailFromMicrosoft(acme, "ann@acme.test").peerIs(vps)),
			does("AUTH= of a stranger in MAIL", func(t *testing.T, r *relay) {
				c := r.as(t, vps).greeted().secured()
				c.must(250, "MAIL FROM:<ann@acme.test> AUTH=app+40acme")
				if answer := c.cmd("RCPT TO:<victim@mailbox.test>"); answer.reason != mail.ReasonRelayDenied {
					t.Error(answer)
				}
			}),
			does("HELO as the relay or a customer", func(t *testing.T, r *relay) {
				for _, name := range []string{"relay.anechoic.test", "acme.test", "[127.0.0.1]", "mail-a.outbound.protection.outlook.com"} {
					c := r.as(t, vps).greeted()
					c.must(250, "HELO "+name)
					c.must(250, "MAIL FROM:<ann@acme.test>")
					if answer := c.cmd("RCPT TO:<victim@mailbox.test>"); answer.code != 550 || answer.reason != mail.ReasonRelayDenied {
						t.Errorf("%s: %s", name, answer)
					}
				}
			}),
			does("DATA although every recipient was refused", func(t *testing.T, r *relay) {
				c := r.as(t, vps).greeted().secured()
				c.must(250, "MAIL FROM:<ann@acme.test>")
				c.must(550, "RCPT TO:<victim@mailbox.test>")
				if answer := c.cmd("DATA"); answer.code != 554 {
					t.Error(answer)
				}
			}),
		}},
		{id: "A52", scenario: "header bomb, long lines, big message", variants: []variant{
			no("parts in parts in parts", mail.MIMETooDeep, parts(101)),
			no("messages in messages", mail.MIMETooDeep, messages(101)),
			no("parts in parts, by chunks", mail.MIMETooDeep, parts(101).inChunks(1000)),
			yes("as many parts in parts as may be", parts(60), acmeTest, acmeTest),
			no("a header of a part over the limit", mail.HeaderTooBig, app().headless("Content-Type").ended("Content-Type: multipart/mixed; boundary=b").body(
				"--b\r\n"+strings.Repeat("X: "+strings.Repeat("y", 900)+"\r\n", 300)+"\r\ntext\r\n--b--\r\n")),
			no("a hundred thousand fields", mail.HeaderTooBig, app().topped(strings.TrimSuffix(strings.Repeat("X:y\r\n", 100_000), "\r\n"))),
			no("a header of nearly a mebibyte in one field", mail.HeaderTooBig, app().topped("X: "+strings.Repeat(strings.Repeat("y", 990)+"\r\n ", 1000)+"z")),
			no("a header that is larger than a message may be", mail.MessageTooBig, app().topped(strings.TrimSuffix(strings.Repeat("X: "+strings.Repeat("y", 900)+"\r\n", 1400), "\r\n"))),
			no("the same by chunks", mail.HeaderTooBig, app().topped(strings.TrimSuffix(strings.Repeat("X:y\r\n", 1001), "\r\n")).inChunks(4096)),
			no("a long line by chunks", mail.LineTooLong, app().body(strings.Repeat("y", 999)+"\r\n").inChunks(500)),
			yes("ten thousand parts beside each other", app().headless("Content-Type").ended("Content-Type: multipart/mixed; boundary=b").body(
				strings.Repeat("--b\r\n\r\nx\r\n", 10_000)+"--b--\r\n"), acmeTest, acmeTest),

			no("more fields than the limit", mail.HeaderTooBig, app().topped(strings.TrimSuffix(strings.Repeat("X: y\r\n", 1001), "\r\n"))),
			no("more octets than the limit", mail.HeaderTooBig, app().topped("X: "+strings.Repeat(strings.Repeat("y", 900)+"\r\n ", 300)+"z")),
			no("a line of 999 octets in the header", mail.LineTooLong, app().topped("X: "+strings.Repeat("y", 996))),
			no("a line of 999 octets in the body", mail.LineTooLong, app().body(strings.Repeat("y", 999)+"\r\n")),
			no("a line of a hundred thousand octets", mail.LineTooLong, app().body(strings.Repeat("y", 100_000)+"\r\n")),
			no("more octets than a message may have", mail.MessageTooBig, app().body(strings.Repeat(strings.Repeat("y", 76)+"\r\n", 14_000))),
			no("too many hops", mail.TooManyHops, app().topped(strings.TrimSuffix(strings.Repeat("Received: by x; Sun, 22 Nov 2026 11:00:00 +0000\r\n", 51), "\r\n"))),
			yes("a line of 998 octets", app().body(strings.Repeat("y", 998)+"\r\n"), acmeTest, acmeTest),
			yes("a dot and 998 octets", app().body("."+strings.Repeat("y", 997)+"\r\n"), acmeTest, acmeTest),
			does("SIZE says it before", func(t *testing.T, r *relay) {
				c, _ := r.open(t, app())
				if answer := c.cmd("MAIL FROM:<ann@acme.test> SIZE=1048577"); answer.code != 552 || answer.reason != mail.ReasonMessageTooBig {
					t.Error(answer)
				}
				c.must(250, "MAIL FROM:<ann@acme.test> SIZE=1048576")
			}),
		}},
	}
}

// parts is a message of parts in parts.
func parts(depth int) letter {
	var b strings.Builder
	for i := range depth {
		fmt.Fprintf(&b, "--b%d\r\nContent-Type: multipart/mixed; boundary=b%d\r\n\r\n", i, i+1)
	}
	return mailFromUser("app@acme", "ann@acme.test").headless("Content-Type").ended("Content-Type: multipart/mixed; boundary=b0").body(b.String() + "text\r\n")
}

// messages is a message that carries a message, and so on.
func messages(depth int) letter {
	return mailFromUser("app@acme", "ann@acme.test").headless("Content-Type").ended("Content-Type: message/rfc822").body(strings.Repeat("Content-Type: message/rfc822\r\n\r\n", depth) + "text\r\n")
}

// hidden is a transaction that somebody hides in another's data.
const hidden = "MAIL FROM:<evil@attack.com>\r\nRCPT TO:<victim@mailbox.test>\r\nDATA\r\nFrom: evil@attack.com\r\nMessage-ID: <smuggled@attack.com>\r\n\r\nsmuggled\r\n.\r\n"

// endings is the format of end-of-data.dev.json.
type endings struct {
	MustEnd    []string `json:"must_end"`
	MustNotEnd []struct {
		Seq string `json:"seq"`
	} `json:"must_not_end"`
}

func readEndings(t *testing.T) (mustNot []string) {
	t.Helper()
	var e endings
	if err := json.Unmarshal(suite(t, "smtp/end-of-data.dev.json"), &e); err != nil {
		t.Fatal(err)
	}
	for _, s := range e.MustNotEnd {
		mustNot = append(mustNot, s.Seq)
	}
	if len(mustNot) < 9 {
		t.Fatalf("the suite has %d sequences", len(mustNot))
	}
	return mustNot
}

// listeners are all ways to a DATA.
var listeners = []door{behindProxy, plainPort, tlsPort, submission}

// inData opens a transaction up to its 354.
func (r *relay) inData(t testing.TB, d door) *client {
	t.Helper()
	l := mailFromUser("app@attacker", "mallory@attack.com").through(d).peerIs(fmt.Sprintf("198.18.%d.%d", callers.Add(1)/250, 1+callers.Load()%250))
	c, _ := r.open(t, l)
	c.must(250, "MAIL FROM:<mallory@attack.com>")
	c.must(250, "RCPT TO:<victim@mailbox.test>")
	c.must(354, "DATA")
	return c
}

// smuggle wants one 521 and the end, whatever is sent.
func smuggle(t *testing.T, c *client, pieces ...string) {
	t.Helper()
	go func() {
		for _, piece := range pieces {
			c.writeAnyway(piece)
		}
	}()
	if answer := c.reply(); answer.code != 521 || answer.reason != mail.ReasonBareNewline {
		t.Errorf("%q: %s", pieces, answer)
	}
	if answer := c.reply(); !answer.closed {
		t.Errorf("%q: the connection goes on: %s", pieces, answer)
	}
}

const smuggler = "From: mallory@attack.com\r\nMessage-ID: <smuggler@attack.com>\r\n\r\na line"

func smuggling(t *testing.T, r *relay) {
	for _, d := range listeners {
		for _, seq := range readEndings(t) {
			smuggle(t, r.inData(t, d), smuggler+seq+hidden)
		}
	}
	nothingSmuggled(t, r)
}

func smugglingSplit(t *testing.T, r *relay) {
	for _, seq := range readEndings(t) {
		for at := range len(seq) + 1 {
			smuggle(t, r.inData(t, behindProxy), smuggler+seq[:at], seq[at:]+hidden)
		}
	}
	nothingSmuggled(t, r)
}

func smugglingPipelined(t *testing.T, r *relay) {
	for _, seq := range readEndings(t)[:3] {
		first := draft("mallory@attack.com")
		c := r.inData(t, submission)
		c.write(string(first.Plain()) + ".\r\nMAIL FROM:<mallory@attack.com>\r\nRCPT TO:<victim@mailbox.test>\r\nDATA\r\n")
		for _, code := range []int{250, 250, 250, 354} {
			if answer := c.reply(); answer.code != code {
				t.Fatalf("%s instead of %d", answer, code)
			}
		}
		smuggle(t, c, smuggler+seq+hidden)
		expectAlso(first.MessageID)
		r.await(t, first.MessageID)
	}
	nothingSmuggled(t, r)
}

// expected are messages that tests of their own sent and that may be at the
// receiver.
var expected = map[string]bool{}

func expectAlso(messageID string) { expected[messageID] = true }

// nothingSmuggled: neither message arrived, and the ledger knows nothing of the
// hidden sender.
func nothingSmuggled(t *testing.T, r *relay) {
	t.Helper()
	r.acceptedAndDelivered(t, mailFromUser("app@globex", "marker@globex.test"))
	for _, id := range []string{"<smuggler@attack.com>", "<smuggled@attack.com>"} {
		if _, arrived := r.receiver.Judgement(id); arrived {
			t.Errorf("%s arrived", id)
		}
	}
	if found := r.facts(t, url.Values{"address": {"evil@attack.com"}}); len(found) > 0 {
		t.Errorf("the ledger knows the hidden sender: %v", found)
	}
	refused := 0
	for _, facts := range r.facts(t, url.Values{"reason": {string(mail.ReasonBareNewline)}}) {
		for _, f := range facts {
			if f.Event == ledger.Refused {
				refused++
			}
		}
	}
	if refused == 0 {
		t.Error("the ledger has no BARE_NEWLINE")
	}
}

// commandsBeforeData: what comes behind DATA before its 354 is neither text nor a
// command.
func commandsBeforeData(t *testing.T, r *relay) {
	c, _ := r.open(t, mailFromUser("app@attacker", "mallory@attack.com"))
	c.must(250, "MAIL FROM:<mallory@attack.com>")
	c.must(250, "RCPT TO:<victim@mailbox.test>")
	c.write("DATA\r\n" + smuggler + "\r\n.\r\n" + hidden)
	if answer := c.reply(); answer.code != 503 || answer.reason != mail.ReasonBadSequence {
		t.Error(answer)
	}
	if answer := c.reply(); !answer.closed {
		t.Errorf("the connection goes on: %s", answer)
	}
	nothingSmuggled(t, r)
}

// connectWithout connects to the TLS port without TLS.
func (r *relay) connectWithout(t testing.TB, d door) *client {
	t.Helper()
	raw, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: caller()}}).Dial("tcp", r.address(d))
	if err != nil {
		t.Fatal(err)
	}
	return newClient(t, raw, r.said)
}

func starttlsInjection(t *testing.T, r *relay) {
	for _, injected := range []string{"MAIL FROM:<evil@attack.com>\r\n", "RSET\r\n", "x", chunk(hidden), "AUTH PLAIN " + plainResponse("app@acme", passwords["app@acme"]) + "\r\n"} {
		c := r.as(t, office).greeted()
		c.must(250, "EHLO sender.test")
		c.write("STARTTLS\r\n" + injected)
		if answer := c.reply(); answer.code != 503 || answer.reason != mail.ReasonBadSequence {
			t.Errorf("%q: %s", injected, answer)
		}
		if answer := c.reply(); !answer.closed {
			t.Errorf("%q: the connection goes on: %s", injected, answer)
		}
	}
}

func authInClear(t *testing.T, r *relay) {
	for _, d := range []door{plainPort, submission, behindProxy} {
		c := r.inClear(t, d)
		if said := c.must(250, "EHLO sender.test").text; strings.Contains(said, "AUTH") || !strings.Contains(said, "STARTTLS") {
			t.Errorf("%s: offered in clear:\n%s", d, said)
		}
		for _, line := range []string{"AUTH PLAIN " + plainResponse("app@acme", passwords["app@acme"]), "AUTH PLAIN", "AUTH LOGIN"} {
			if answer := c.cmd(line); answer.code != 530 || answer.reason != mail.ReasonTLSRequired {
				t.Errorf("%s: %s", d, answer)
			}
		}
	}
}

// inClear connects to a door that begins in clear, up to the greeting.
func (r *relay) inClear(t testing.TB, d door) *client {
	t.Helper()
	if d == behindProxy {
		return r.as(t, vps).greeted()
	}
	return r.connect(t, d).greeted()
}

func forgottenByTLS(t *testing.T, r *relay) {
	c := r.as(t, vps).greeted()
	c.must(250, "EHLO sender.test")
	c.must(250, "MAIL FROM:<ann@acme.test>")
	c.must(220, "STARTTLS")
	c.handshake()
	if answer := c.cmd("RCPT TO:<victim@mailbox.test>"); answer.code != 503 {
		t.Error(answer)
	}
	if answer := c.cmd("MAIL FROM:<ann@acme.test>"); answer.code != 503 {
		t.Errorf("without a new EHLO: %s", answer)
	}
}

func submissionWants(t *testing.T, r *relay) {
	c := r.connect(t, submission).greeted()
	c.must(250, "EHLO sender.test")
	if answer := c.cmd("MAIL FROM:<ann@acme.test>"); answer.code != 530 || answer.reason != mail.ReasonTLSRequired {
		t.Error(answer)
	}
	c.must(220, "STARTTLS")
	c.handshake()
	c.must(250, "EHLO sender.test")
	if answer := c.cmd("MAIL FROM:<ann@acme.test>"); answer.code != 530 || answer.reason != mail.ReasonAuthRequired {
		t.Error(answer)
	}
	c.login("app@acme")
	c.must(250, "MAIL FROM:<ann@acme.test>")
}

// addressVariants are paths of MAIL and RCPT that are none.
func addressVariants() (variants []variant) {
	long := strings.Repeat("a", 65) + "@acme.test"
	longer := "a@" + strings.Repeat("a.", 160) + "test"
	for _, p := range []struct {
		name, path string
		codes      []int
	}{
		{"a NUL", "<ann\x00@acme.test>", []int{501, 521}},
		{"a bare CR", "<ann@acme.test\r RCPT>", []int{501, 521}},
		{"a bare LF and a command", "<ann@acme.test\nRCPT TO:<x@y.test>>", []int{501, 521}},
		{"an escape", "<ann\x1b[31m@acme.test>", []int{501}},
		{"no end", "<ann@acme.test", []int{501}},
		{"no beginning", "ann@acme.test>", []int{501}},
		{"no brackets", "ann@acme.test", []int{501}},
		{"two paths", "<ann@acme.test><x@y.test>", []int{501, 555}},
		{"a path in a path", "<ann@acme.test<x@y.test>>", []int{501, 553, 555}},
		{"a quote without an end", `<"ann@acme.test>`, []int{501}},
		{"CRLF in quotes", "<\"ann\rx\"@acme.test>", []int{501, 521}},
		{"a source route", "<@evil.test:ann@acme.test>", []int{501, 553}},
		{"a space", "<ann x@acme.test>", []int{501, 555}},
		{"a comment", "<ann(x)@acme.test>", []int{501}},
		{"two at signs", "<ann@acme.test@evil.test>", []int{501}},
		{"UTF-8 without SMTPUTF8", "<\xc3\xa4nn@acme.test>", []int{553}},
		{"a U-label without SMTPUTF8", "<ann@b\xc3\xbccher.test>", []int{553}},
		{"octets that are no UTF-8", "<ann\xff@acme.test>", []int{501, 553}},
		{"a local part of 65 octets", "<" + long + ">", []int{501}},
		{"a path of 320 octets", "<" + longer + ">", []int{501}},
		{"a trailing dot", "<ann@acme.test.>", []int{501}},
		{"an address literal", "<ann@[192.0.2.1]>", []int{501, 553}},
	} {
		for _, verb := range []string{"MAIL FROM:", "RCPT TO:"} {
			variants = append(variants, does(verb+" "+p.name, func(t *testing.T, r *relay) { badPath(t, r, verb, p.path, p.codes) }))
		}
	}
	return append(variants,
		does("MAIL FROM: unknown parameters", func(t *testing.T, r *relay) {
			for _, parameter := range []string{"SMTPUTF8=1", "SMTPUTF8 SMTPUTF8", "X=y", "SIZE=-1", "SIZE=1 SIZE=2", "RET=ALL", "BODY=9BIT", "=x", "ENVID=a b", "ENVID=+zz"} {
				c, _ := r.open(t, mailFromUser("app@acme", "ann@acme.test"))
				if answer := c.cmd("MAIL FROM:<ann@acme.test> " + parameter); answer.code != 501 && answer.code != 555 {
					t.Errorf("%s: %s", parameter, answer)
				}
			}
		}),
		does("a line without an end", func(t *testing.T, r *relay) {
			c, _ := r.open(t, mailFromUser("app@acme", "ann@acme.test"))
			go c.writeAnyway("MAIL FROM:<" + strings.Repeat("a", 1<<20))
			if answer := c.reply(); answer.code != 500 && answer.code != 421 {
				t.Error(answer)
			}
		}))
}

// badPath: the path is refused; if the connection goes on, an honest transaction
// does too.
func badPath(t *testing.T, r *relay, verb, path string, codes []int) {
	c, _ := r.open(t, mailFromUser("app@acme", "ann@acme.test"))
	if verb == "RCPT TO:" {
		c.must(250, "MAIL FROM:<ann@acme.test>")
	}
	answer := c.cmd(verb + path)
	right := false
	for _, code := range codes {
		right = right || answer.code == code
	}
	if !right {
		t.Fatalf("%s, want one of %v", answer, codes)
	}
	if answer.code == 521 {
		if !c.gone() {
			t.Error("the connection goes on")
		}
		return
	}
	if answer.reason != mail.ReasonAddressSyntax && answer.reason != mail.ReasonSyntax {
		t.Errorf("the reason is %s", answer.reason)
	}
	c.must(250, "RSET")
	c.must(250, "MAIL FROM:<ann@acme.test>")
	c.must(250, "RCPT TO:<victim@mailbox.test>")
}
