package screen

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"anechoic/mail"
)

// isLost asks a lying scanner.
func isLost(t *testing.T, name string, s Scanner) {
	t.Helper()
	v := New(Options{Scanners: []Scanner{s}, Timeout: 5 * time.Second}).Ask(context.Background(), question(t, plain))
	if v.Action != Lost || v.Refusal() == nil {
		t.Errorf("%s: %v: %s", name, v.Action, v.Detail())
	}
	if d := v.Detail(); len(d) > maxDetail || safe(d, len(d)) != d {
		t.Errorf("%s: not fit for a log: %q", name, d)
	}
}

// httpAnswer is a whole answer of a server that then ends the connection.
func httpAnswer(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(body), body)
}

// httpLiar reads a request and answers with text.
func httpLiar(t *testing.T, text string) *Rspamd {
	t.Helper()
	e := listen(t, func(conn net.Conn) {
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		var got []byte
		b := make([]byte, 4096)
		for !bytes.Contains(got, []byte("Good morning.")) {
			n, err := conn.Read(b)
			if err != nil {
				return
			}
			got = append(got, b[:n]...)
		}
		_, _ = io.WriteString(conn, text) // it may be cut off
	})
	r := NewRspamd(e, "relay.anechoic.test", nil)
	t.Cleanup(r.Close)
	return r
}

const passes = `{"is_skipped":false,"score":1.5,"required_score":15,"action":"no action","symbols":{}}`

func TestAnHonestAnswerOfRspamdPasses(t *testing.T) {
	if v := ask(t, httpLiar(t, httpAnswer(passes)), question(t, plain)); v.Action != Pass {
		t.Errorf("%v: %s", v.Action, v.Detail())
	}
}

func TestALyingRspamdIsLost(t *testing.T) {
	for name, answer := range map[string]string{
		"nothing":              "",
		"not HTTP":             "220 smtp ready\r\n",
		"half an answer":       httpAnswer(passes)[:120],
		"less than its length": strings.Replace(httpAnswer(passes), "Content-Length: 8", "Content-Length: 98", 1),
		"negative length":      strings.Replace(httpAnswer(passes), "Content-Length: 8", "Content-Length: -8", 1),
		"two lengths":          strings.Replace(httpAnswer(passes), "Connection: close", "Content-Length: 3", 1),
		"an error status":      strings.Replace(httpAnswer(passes), "200 OK", "500 Sorry", 1),
		"a redirect":           "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
		"too big for it":       strings.Replace(httpAnswer(passes), "200 OK", "413 Too big", 1),
		"a page":               strings.Replace(httpAnswer(passes), "application/json", "text/html", 1),
		"a giant answer":       httpAnswer(strings.Replace(passes, "{}", "{"+strings.Repeat(" ", maxRspamdReply)+"}", 1)),
		"a giant header":       "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n",
		"compressed":           strings.Replace(httpAnswer("\x1f\x8b\x08"), "Connection", "Content-Encoding: gzip\r\nConnection", 1),
	} {
		isLost(t, name, httpLiar(t, answer))
	}
}

func TestNonsenseOfRspamdIsNoAnswer(t *testing.T) {
	change := func(from, to string) string {
		s := strings.Replace(passes, from, to, 1)
		if s == passes {
			t.Fatalf("%q is not there", from)
		}
		return s
	}
	for name, answer := range map[string]string{
		"empty":              "",
		"a list":             "[]",
		"a text":             `"no action"`,
		"null":               "null",
		"no action":          change(`"action":"no action",`, ""),
		"no score":           change(`"score":1.5,`, ""),
		"action null":        change(`"no action"`, "null"),
		"action a number":    change(`"no action"`, "0"),
		"action unknown":     change(`"no action"`, `"pass"`),
		"action twice":       change(`{`, `{"action":"reject",`),
		"score a text":       change("1.5", `"1.5"`),
		"score null":         change("1.5", "null"),
		"score NaN":          change("1.5", "nan"),
		"score without end":  change("1.5", "1e999"),
		"score immense":      change("1.5", "-1e7"),
		"skipped a number":   change("false", "0"),
		"symbols a list":     change("{}}", "[]}"),
		"a symbol's NaN":     change("{}}", `{"A":{"score":NaN}}}`),
		"a symbol a text":    change("{}}", `{"A":"1"}}`),
		"an error":           change(`{`, `{"error":"sorry",`),
		"more after it":      passes + passes,
		"cut off":            passes[:len(passes)-1],
		"in another case":    strings.ReplaceAll(passes, `"action"`, `"Action"`),
		"too many symbols":   change("{}}", "{"+strings.Repeat(`"A":{},`, maxSymbols)+`"A":{}}}`),
		"nested without end": strings.Repeat(`{"symbols":`, 100_000),
	} {
		if r, err := parseRspamdReply([]byte(answer)); err == nil {
			t.Errorf("%s: read as %+v", name, r)
		}
	}
}

// clamdLiar answers the stream, or before it, with text.
func clamdLiar(t *testing.T, text string, early bool) *Clamd {
	t.Helper()
	return &Clamd{Endpoint: listen(t, func(conn net.Conn) {
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		var got []byte
		b := make([]byte, 4096)
		for !early && !bytes.HasSuffix(got, []byte("\r\n\x00\x00\x00\x00")) {
			n, err := conn.Read(b)
			if err != nil {
				return
			}
			got = append(got, b[:n]...)
		}
		_, _ = io.WriteString(conn, text) // it may be cut off
	})}
}

func TestALyingClamdIsLost(t *testing.T) {
	if v := ask(t, clamdLiar(t, "stream: OK\x00", false), question(t, plain)); v.Action != Pass {
		t.Errorf("an honest one: %v: %s", v.Action, v.Detail())
	}
	for name, answer := range map[string]string{
		"nothing":          "",
		"no end":           "stream: OK",
		"a line":           "stream: OK\n",
		"of something":     "/etc/passwd: OK\x00",
		"an empty name":    "stream:  FOUND\x00",
		"two answers":      "stream: OK\x00stream: Evil FOUND\x00",
		"a line in it":     "stream: OK\nstream: OK\x00",
		"an error":         "stream: Can't allocate memory ERROR\x00",
		"a giant answer":   "stream: " + strings.Repeat("A", 1<<20) + " FOUND\x00",
		"another protocol": "220 smtp ready\r\n",
	} {
		isLost(t, name, clamdLiar(t, answer, false))
	}
}

func TestClamdThatPassesBeforeItHasTheMessageIsLost(t *testing.T) {
	q := question(t, plain)
	q.Message.Body = mail.NewBody(bytes.Repeat([]byte("a line\r\n"), 1<<20))
	v := ask(t, clamdLiar(t, "stream: OK\x00", true), q)
	if v.Action != Lost {
		t.Errorf("%v: %s", v.Action, v.Detail())
	}
}

func TestWhatClamdFoundByHeuristicsIsNotCalledMalware(t *testing.T) {
	for signature, want := range map[string]Opinion{
		"Win.Test.EICAR_HDB-1":                            {Action: Refuse, Reason: mail.ReasonMalware},
		"Heuristics.Encrypted.Zip":                        {Action: Hold},
		"Heuristics.Limits.Exceeded.MaxFiles":             {Action: Hold},
		"Heuristics.Phishing.Email.SpoofedDomain":         {Action: Refuse, Reason: mail.ReasonContentRefused},
		"PUA.Win.Packer.Upx-1":                            {Action: Refuse, Reason: mail.ReasonContentRefused},
		"Eicar-Test(44d88612fea8a8f36de82e1278abb02f:68)": {Action: Refuse, Reason: mail.ReasonMalware},
	} {
		o, err := clamdOpinion([]byte("stream: " + signature + " FOUND\x00"))
		if err != nil || o.Action != want.Action || o.Reason != want.Reason || len(o.Findings) != 1 {
			t.Errorf("%s: %+v, %v", signature, o, err)
		}
	}
}

// packet is one packet of the milter protocol.
func packet(kind byte, data string) string {
	return string(binary.BigEndian.AppendUint32(nil, uint32(len(data)+1))) + string(kind) + data
}

// negotiated is an honest answer to the negotiation, with these wishes.
func negotiated(actions, wants uint32) string {
	b := binary.BigEndian.AppendUint32(nil, milterVersion)
	b = binary.BigEndian.AppendUint32(b, actions)
	return packet(cmdNegotiate, string(binary.BigEndian.AppendUint32(b, wants)))
}

// quiet are wishes of a milter that wants the end of the message alone.
const quiet = noConnect | noHelo | noMail | noRcpt | noBody | noHeader | noEndHeader | noData

// milterLiar answers with text as soon as somebody connects, and listens until
// the client has enough.
func milterLiar(t *testing.T, text string) *Milter {
	t.Helper()
	e := listen(t, func(conn net.Conn) {
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.WriteString(conn, text); err != nil {
			return
		}
		if c, ok := conn.(*net.UnixConn); ok {
			_ = c.CloseWrite()
		}
		_, _ = io.Copy(io.Discard, conn)
	})
	return &Milter{Endpoint: e, Hostname: "relay.anechoic.test", Headers: []string{"X-Seen"}}
}

func TestALyingMilterIsLost(t *testing.T) {
	hello := negotiated(0, quiet)
	if v := ask(t, milterLiar(t, hello+packet(replyAccept, "")), question(t, plain)); v.Action != Pass {
		t.Errorf("an honest one: %v: %s", v.Action, v.Detail())
	}
	for name, answer := range map[string]string{
		"nothing":                       "",
		"half a packet":                 hello[:9],
		"no length":                     "\x00\x00\x00\x00",
		"a negative length":             "\xff\xff\xff\xff" + "O",
		"a giant packet":                "\x20\x00\x00\x00" + "O",
		"no negotiation":                packet(replyContinue, ""),
		"an old version":                strings.Replace(hello, "\x06", "\x02", 1),
		"wants to change the sender":    negotiated(0x40, quiet),
		"wants what was not offered":    negotiated(0, 1<<27),
		"no answer":                     hello,
		"an unknown answer":             hello + packet('Z', ""),
		"changes the sender":            hello + packet('e', "evil@x.example\x00") + packet(replyAccept, ""),
		"adds a recipient":              hello + packet('+', "<evil@x.example>\x00") + packet(replyAccept, ""),
		"another body":                  hello + packet('b', "evil") + packet(replyAccept, ""),
		"skips the end":                 hello + packet(replySkip, ""),
		"a reply with a tail":           hello + packet(replyAccept, "x"),
		"a code that accepts":           hello + packet(replyCode, "250 2.0.0 fine\x00"),
		"a code that does not end":      hello + packet(replyCode, "550 no"),
		"a short code":                  hello + packet(replyCode, "55\x00"),
		"progress without end":          hello + strings.Repeat(packet(replyProgress, ""), maxReplies+1) + packet(replyAccept, ""),
		"fields without end":            hello + strings.Repeat(packet(replyAddHeader, "X-Seen\x00yes\x00"), maxFields+1) + packet(replyAccept, ""),
		"a change before its time":      negotiated(0, quiet&^noHelo) + packet(replyQuarantine, "x\x00"),
		"skips a greeting":              negotiated(0, quiet&^noHelo) + packet(replySkip, ""),
		"a field that ends the header":  hello + packet(replyAddHeader, "X-Seen\x00a\r\n\r\nbody\x00") + packet(replyAccept, ""),
		"two fields in one":             hello + packet(replyAddHeader, "X-Seen\x00a\nFrom: evil@x.example\x00") + packet(replyAccept, ""),
		"a bare CR":                     hello + packet(replyAddHeader, "X-Seen\x00a\rb\x00") + packet(replyAccept, ""),
		"a colon in a name":             hello + packet(replyAddHeader, "From: a\r\nX-Seen\x00a\x00") + packet(replyAccept, ""),
		"no name":                       hello + packet(replyAddHeader, "\x00a\x00") + packet(replyAccept, ""),
		"a field without value":         hello + packet(replyAddHeader, "X-Seen\x00") + packet(replyAccept, ""),
		"a field outside ASCII":         hello + packet(replyInsHeader, "\x00\x00\x00\x00X-Seen\x00\xff\x00") + packet(replyAccept, ""),
		"fields, and then half a reply": hello + packet(replyAddHeader, "X-Seen\x00yes\x00") + "\x00\x00",
	} {
		isLost(t, name, milterLiar(t, answer))
	}
}

func TestAMilterChangesNothingThatArrived(t *testing.T) {
	answer := negotiated(offered, quiet) + packet(replyChgHeader, "\x00\x00\x00\x01Subject\x00another\x00") +
		packet(replyInsHeader, "\x00\x00\x00\x00From\x00evil@x.example\x00") + packet(replyAddHeader, "x-seen\x00a\n\tb\x00") + packet(replyContinue, "")
	v := ask(t, milterLiar(t, answer), question(t, plain))
	if v.Action != Pass || len(v.Headers) != 1 || string(v.Headers[0].Raw()) != "x-seen: a\r\n\tb\r\n" {
		t.Errorf("%v: %v", v.Action, v.Headers)
	}
}

func TestASlowDripEndsWithTheTimeOut(t *testing.T) {
	drip := func(conn net.Conn) {
		for _, err := conn.Write([]byte("H")); err == nil; _, err = conn.Write([]byte("H")) {
			b := make([]byte, 1)
			_ = conn.SetReadDeadline(time.Now().Add(time.Millisecond))
			_, _ = conn.Read(b)
		}
	}
	e := listen(t, drip)
	r := NewRspamd(e, "relay.anechoic.test", nil)
	t.Cleanup(r.Close)
	for _, s := range []Scanner{r, &Clamd{Endpoint: e}, &Milter{Endpoint: e}} {
		v := New(Options{Scanners: []Scanner{s}, Timeout: 200 * time.Millisecond}).Ask(context.Background(), question(t, plain))
		if v.Action != Lost {
			t.Errorf("%s: %v", s.Name(), v.Action)
		}
	}
}

func TestNobodyListening(t *testing.T) {
	e := Endpoint{Network: "unix", Address: t.TempDir() + "/none"}
	for _, s := range []Scanner{NewRspamd(e, "relay.anechoic.test", nil), &Clamd{Endpoint: e}, &Milter{Endpoint: e}} {
		isLost(t, s.Name(), s)
		if s.Ping(context.Background()) == nil {
			t.Errorf("%s answers a ping", s.Name())
		}
	}
}
