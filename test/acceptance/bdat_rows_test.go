package acceptance

import (
	"fmt"
	"strings"
	"testing"

	"anechoic/lab"
	"anechoic/mail"
)

// bdatRows: a message by chunks is the same message, and its octets are never
// commands.
func bdatRows() []row {
	app := func() letter { return mailFromUser("app@acme", "ann@acme.test") }
	return []row{
		{id: "A37", scenario: "BDAT tricks", variants: []variant{
			does("BINARYMIME and what changes who the peer is are not offered", notOffered("BINARYMIME", "XCLIENT", "XFORWARD")),
			bdat("BDAT 0 LAST twice", "BDAT 0 LAST\r\nBDAT 0 LAST\r\n", "550 FROM_NOT_SINGLE", "503 BAD_SEQUENCE"),
			bdat("a bad size", "BDAT -1 LAST\r\n", "501 SYNTAX", "closed"),
			bdat("no size", "BDAT\r\n", "501 SYNTAX", "closed"),
			bdat("a size in hexadecimal", "BDAT 0x10 LAST\r\n", "501 SYNTAX", "closed"),
			bdat("a huge size", "BDAT 99999999999999999999 LAST\r\n", "501 SYNTAX", "closed"),
			bdat("a size that nobody has memory for", "BDAT 999999999999999999 LAST\r\n", "552 MESSAGE_TOO_BIG", "closed"),
			bdat("another word than LAST", "BDAT 5 LASTX\r\nhello", "501 SYNTAX"),
			bdat("bare LF", "BDAT 6 LAST\r\nhello\n", "521 BARE_NEWLINE", "closed"),
			bdat("bare CR", "BDAT 8 LAST\r\nhel\rlo\r\n", "521 BARE_NEWLINE", "closed"),
			bdat("NUL", "BDAT 8 LAST\r\nhel\x00lo\r\n", "521 BARE_NEWLINE", "closed"),
			bdat("CR at the end of one chunk, something else at the start of the next", "BDAT 2\r\na\rBDAT 1 LAST\r\nb", "250 ", "521 BARE_NEWLINE", "closed"),
			bdat("CR at the very end", "BDAT 2 LAST\r\na\r", "521 BARE_NEWLINE", "closed"),
			bdat("DATA in the middle", chunk(smuggler)+"DATA\r\n", "250 ", "503 BAD_SEQUENCE"),
			bdat("DATA in the middle, with the last chunk pipelined behind it", chunk(smuggler)+"DATA\r\nBDAT 0 LAST\r\n", "250 ", "503 BAD_SEQUENCE", "closed"),
			bdat("RSET in the middle", chunk(smuggler)+"RSET\r\nBDAT 0 LAST\r\n", "250 ", "250 ", "503 BAD_SEQUENCE"),
			bdat("MAIL in the middle", chunk(smuggler)+"MAIL FROM:<mallory@attack.com>\r\nRSET\r\n", "250 ", "503 BAD_SEQUENCE", "250 "),
			bdat("RCPT in the middle", chunk(smuggler)+"RCPT TO:<other@mailbox.test>\r\nRSET\r\n", "250 ", "503 BAD_SEQUENCE", "250 "),
			bdat("a transaction instead of a message", chunk(hidden)+"BDAT 0 LAST\r\n", "250 ", "550 HEADER_SYNTAX"),
			bdat("a chunk over the limit: swallowed to its end", "BDAT 1048577 LAST\r\n"+strings.Repeat(strings.Repeat("y", 75)+"\r\n", 13618)[:1048577], "552 MESSAGE_TOO_BIG"),
			bdat("chunks over the limit together", chunk(smuggler+"\r\n"+strings.Repeat(strings.Repeat("y", 75)+"\r\n", 13000))+chunk(strings.Repeat(strings.Repeat("y", 75)+"\r\n", 1000))+"BDAT 0 LAST\r\n", "250 ", "552 MESSAGE_TOO_BIG", "503 BAD_SEQUENCE"),
			does("without a recipient: the chunk is no commands", bdatInVain),
			does("sequences that only look like an end", smugglingInChunks),
			does("cut off in a chunk", bdatCutOff),
			yes("an end of data and a transaction inside", app().body("a\r\n.\r\n"+hidden+"QUIT\r\n").inChunks(1<<20), acmeTest, acmeTest),
			yes("the same in chunks of one octet", app().body("a\r\n.\r\n"+hidden).inChunks(1), acmeTest, acmeTest),
			yes("cut inside every CRLF", app().body("a\r\n.\r\n..\r\n.b\r\n").inChunks(7), acmeTest, acmeTest),
			yes("mail of the tenant", mailFromMicrosoft(acme, "Ann <ann@acme.test>").inChunks(512), acmeTest, acmeTest),
			no("a spoof by chunks", mail.TenantNotAuthorized, mailThrough(attacker, lab.BlindRelay, vps, "ceo@acme.test").inChunks(100)),
			no("two From in two chunks", mail.FromNotSingle, app().topped("From: ann@acme.test").inChunks(21)),
			does("BODY=BINARYMIME", func(t *testing.T, r *relay) {
				c, _ := r.open(t, app())
				if answer := c.cmd("MAIL FROM:<ann@acme.test> BODY=BINARYMIME"); answer.code != 555 || answer.reason != mail.ReasonSyntax {
					t.Error(answer)
				}
			}),
			yes("BDAT inside DATA is text", app().body("BDAT 0 LAST\r\n"), acmeTest, acmeTest),
		}},
	}
}

// notOffered looks at EHLO before and inside TLS.
func notOffered(names ...string) func(t *testing.T, r *relay) {
	return func(t *testing.T, r *relay) {
		c := r.as(t, vps).greeted()
		said := c.must(250, "EHLO sender.test").text
		c.must(220, "STARTTLS")
		c.handshake()
		said += c.must(250, "EHLO sender.test").text
		for _, name := range names {
			if strings.Contains(strings.ToUpper(said), name) {
				t.Errorf("%s is offered:\n%s", name, said)
			}
		}
	}
}

// bdat sends octets behind RCPT in one write, and wants these replies ("250 ",
// "503 BAD_SEQUENCE" or "closed"), in order. If the connection is not closed, a
// next transaction begins as if nothing had been.
func bdat(name, octets string, replies ...string) variant {
	return does(name, func(t *testing.T, r *relay) {
		c, _ := r.open(t, mailFromUser("app@attacker", "mallory@attack.com"))
		c.must(250, "MAIL FROM:<mallory@attack.com>")
		c.must(250, "RCPT TO:<victim@mailbox.test>")
		go c.writeAnyway(octets)
		for i, want := range replies {
			answer := c.reply()
			got := fmt.Sprintf("%d %s", answer.code, answer.reason)
			if answer.closed {
				got = "closed"
			}
			if got != want {
				t.Fatalf("reply %d is %s, want %s", i+1, answer, want)
			}
			if answer.closed {
				return
			}
		}
		c.must(250, "MAIL FROM:<mallory@attack.com>")
	})
}

// chunk is a BDAT that is not the last.
func chunk(octets string) string { return fmt.Sprintf("BDAT %d\r\n%s", len(octets), octets) }

// bdatInVain: a chunk behind refused recipients is taken octet by octet, and is
// no commands.
func bdatInVain(t *testing.T, r *relay) {
	c := r.as(t, vps).greeted().secured()
	c.write("MAIL FROM:<ann@acme.test>\r\nRCPT TO:<victim@mailbox.test>\r\n" + chunk(hidden) + "BDAT 0 LAST\r\nRSET\r\n")
	for _, code := range []int{250, 550, 554, 503, 250} {
		if answer := c.reply(); answer.code != code {
			t.Fatalf("%s, want %d", answer, code)
		}
	}
	nothingSmuggled(t, r)
}

// smugglingInChunks: bare CR, LF and NUL are refused in chunks as in DATA.
func smugglingInChunks(t *testing.T, r *relay) {
	for _, seq := range readEndings(t) {
		c, _ := r.open(t, mailFromUser("app@attacker", "mallory@attack.com"))
		c.must(250, "MAIL FROM:<mallory@attack.com>")
		c.must(250, "RCPT TO:<victim@mailbox.test>")
		data := smuggler + seq + hidden
		smuggle(t, c, fmt.Sprintf("BDAT %d LAST\r\n%s", len(data), data))
	}
	nothingSmuggled(t, r)
}

// bdatCutOff: a message that ends with the connection is none.
func bdatCutOff(t *testing.T, r *relay) {
	for _, cut := range []string{chunk(smuggler + "\r\n"), "BDAT 1000 LAST\r\n" + smuggler + "\r\n"} {
		c, _ := r.open(t, mailFromUser("app@attacker", "mallory@attack.com"))
		c.must(250, "MAIL FROM:<mallory@attack.com>")
		c.must(250, "RCPT TO:<victim@mailbox.test>")
		c.write(cut)
		c.conn.Close()
	}
	nothingSmuggled(t, r)
}
