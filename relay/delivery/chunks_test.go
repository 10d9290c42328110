package delivery

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"pgregory.net/rapid"
)

// chunkServer takes one message by BDAT and counts as a strict server would.
type chunkServer struct {
	pipelining bool
	refuse     int    // the chunk that is refused, from 1; 0: none
	reply      string // with which

	content  bytes.Buffer
	sizes    []int
	complete bool
	reset    bool
}

func (s *chunkServer) serve(conn net.Conn) error {
	defer conn.Close()
	in, out := bufio.NewReaderSize(conn, 1<<20), bufio.NewWriter(conn)
	fmt.Fprint(out, "220 chunks\r\n")
	for {
		if err := out.Flush(); err != nil {
			return err
		}
		line, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		switch word, rest, _ := strings.Cut(strings.TrimRight(line, "\r\n"), " "); word {
		case "EHLO":
			fmt.Fprint(out, "250-chunks\r\n250-CHUNKING\r\n")
			if s.pipelining {
				fmt.Fprint(out, "250-PIPELINING\r\n")
			}
			fmt.Fprint(out, "250 8BITMIME\r\n")
		case "BDAT":
			size, last := strings.CutSuffix(rest, " LAST")
			n, err := strconv.Atoi(size)
			if err != nil {
				return fmt.Errorf("%q", line)
			}
			s.sizes = append(s.sizes, n)
			if _, err := io.CopyN(&s.content, in, int64(n)); err != nil {
				return err
			}
			switch {
			case s.refuse > 0 && len(s.sizes) == s.refuse:
				fmt.Fprint(out, s.reply+"\r\n")
			case s.refuse > 0 && len(s.sizes) > s.refuse:
				fmt.Fprint(out, "503 5.5.1 after a refusal\r\n")
			default:
				s.complete = s.complete || last
				fmt.Fprint(out, "250 2.0.0 taken\r\n")
			}
		case "RSET":
			s.reset = true
			fmt.Fprint(out, "250 ok\r\n")
		case "QUIT":
			fmt.Fprint(out, "221 bye\r\n")
			return out.Flush()
		case "MAIL", "RCPT":
			fmt.Fprint(out, "250 ok\r\n")
		default:
			return fmt.Errorf("%q was not expected", line)
		}
	}
}

// deliver sends content to the server.
func (s *chunkServer) deliver(t testing.TB, c Content, size int64) Result {
	t.Helper()
	ended := make(chan error, 1)
	transport := &SMTP{Helo: "relay.anechoic.test", Dial: func(context.Context, netip.Addr, netip.AddrPort) (net.Conn, error) {
		ours, theirs, err := loopbackPipe()
		if err == nil {
			go func() { ended <- s.serve(theirs) }()
		}
		return ours, err
	}}
	route := Route{Site: "globex.example", Hosts: []Host{{Name: "mx1.globex.example", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Port: 25}}}
	a := testAttempt(t, route, plainContent, "bob@globex.example")
	a.Content, a.Size = c, size
	result := transport.Deliver(t.Context(), a)[0]
	transport.Close()
	if err := ignoreClosed(<-ended); err != nil && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("the server: %v", err)
	}
	return result
}

// loopbackPipe is a connection with the buffers of a real one.
func loopbackPipe() (ours, theirs net.Conn, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	if ours, err = net.Dial("tcp", l.Addr().String()); err != nil {
		return nil, nil, err
	}
	theirs, err = l.Accept()
	return ours, theirs, err
}

// sizedContent is a message of exactly that many octets in two pieces.
func sizedContent(size int) bytesContent {
	const head = "A: b\r\n\r\n"
	rest := size - len(head)
	var b strings.Builder
	b.WriteString(head)
	for n := 0; rest > 80; n++ {
		fmt.Fprintf(&b, ".%-77d\r\n", n)
		rest -= 80
	}
	b.WriteString(strings.Repeat("x", rest-2) + "\r\n")
	c := newContent(b.String())
	c.split = true
	return c
}

func TestChunksAreTheExactOctets(t *testing.T) {
	const chunk = contentBuffer - chunkHead
	for _, pipelining := range []bool{true, false} {
		for _, size := range []int{90, chunk - 1, chunk, chunk + 1, 2 * chunk, 2*chunk + 10, 40*chunk + 77} {
			for _, split := range []bool{true, false} {
				t.Run(fmt.Sprintf("%d octets, pipelining %t, split %t", size, pipelining, split), func(t *testing.T) {
					c := sizedContent(size)
					c.split = split
					s := chunkServer{pipelining: pipelining}
					if r := s.deliver(t, c, int64(size)); r.Status != Delivered || !r.Relayed {
						t.Fatalf("%+v", r)
					}
					if !s.complete || sha256.Sum256(s.content.Bytes()) != sha256.Sum256(c.all) {
						t.Errorf("%d octets came in chunks of %v", s.content.Len(), s.sizes)
					}
					if want := (size + chunk - 1) / chunk; len(s.sizes) != want {
						t.Errorf("%d chunks, want %d", len(s.sizes), want)
					}
				})
			}
		}
	}
}

// TestARefusedChunkIsTheAnswer: whichever chunk is refused, nothing after a
// window is sent, and the verdict is the server's.
func TestARefusedChunkIsTheAnswer(t *testing.T) {
	for _, pipelining := range []bool{true, false} {
		for refuse := 1; refuse <= 10; refuse++ {
			s := chunkServer{pipelining: pipelining, refuse: refuse, reply: "552 5.3.4 too much"}
			c := sizedContent(10*(contentBuffer-chunkHead) - 5)
			r := s.deliver(t, c, int64(len(c.all)))
			if r.Status != Failed || r.Enhanced != "5.3.4" || !r.Said {
				t.Errorf("chunk %d: %+v", refuse, r)
			}
			if s.complete || len(s.sizes) > refuse+chunkWindow+1 || !s.reset {
				t.Errorf("chunk %d refused: %d were sent, reset %t", refuse, len(s.sizes), s.reset)
			}
		}
	}
}

// TestChunkReaderEqualsDotWriter: what one refuses the other refuses, over any
// cut into pieces.
func TestChunkReaderEqualsDotWriter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOf(rapid.SampledFrom([]string{"a", ".", "\r\n", "\r\n", "\r", "\n", "\x00", "xyz"})).Draw(t, "text"), "")
		if rapid.Bool().Draw(t, "ended") {
			text += "\r\n"
		}
		if text == "" {
			return
		}
		var out bytes.Buffer
		w := newDotWriter(&out, make([]byte, 0, 64))
		_, err := io.WriteString(w, text)
		if err == nil {
			err = w.Close()
		}
		r := chunkReader{in: strings.NewReader(text), last: '\n'}
		buf := make([]byte, rapid.IntRange(1, 9).Draw(t, "size"))
		var got []byte
		var chunkErr error
		for last := false; !last && chunkErr == nil; {
			var n int
			n, last, chunkErr = r.read(buf)
			got = append(got, buf[:n]...)
		}
		if (err == nil) != (chunkErr == nil) {
			t.Fatalf("%q: dots say %v, chunks say %v", text, err, chunkErr)
		}
		if err == nil && string(got) != text {
			t.Fatalf("%q came as %q", text, got)
		}
	})
}

func TestAnUnreadableBodyHandsNothingOver(t *testing.T) {
	c := sizedContent(3 * contentBuffer)
	s := chunkServer{pipelining: true}
	r := s.deliver(t, brokenContent{c}, int64(len(c.all)))
	if r.Status != Deferred || r.Enhanced != "4.3.0" || s.complete {
		t.Errorf("%+v, complete %t", r, s.complete)
	}
}

// brokenContent can be read once, by the look for eight bits, and fails then.
type brokenContent struct{ bytesContent }

var brokenReads int

func (c brokenContent) Body() io.Reader {
	if brokenReads++; brokenReads == 1 {
		return c.bytesContent.Body()
	}
	return io.MultiReader(io.LimitReader(c.bytesContent.Body(), 2*contentBuffer), failingReader{})
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, fmt.Errorf("the disk is gone") }
