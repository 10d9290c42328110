package delivery

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func readOne(s string) (Reply, error) {
	r := newReplyReader(strings.NewReader(s))
	got, err := r.read()
	if err != nil {
		return Reply{}, err
	}
	return got.keep(), nil
}

func TestRepliesAreRead(t *testing.T) {
	for in, want := range map[string]Reply{
		"250 2.1.0 Ok\r\n": {250, "2.1.0", "Ok"},
		"250\r\n":          {250, "", ""},
		"250 \r\n":         {250, "", ""},
		"354 Go on\r\n":    {354, "", "Go on"},
		"550-5.1.1 No such\r\n550 5.1.1 user\r\n":           {550, "5.1.1", "No such user"},
		"550-5.1.1 No such\r\n550 user\r\n":                 {550, "5.1.1", "No such user"},
		"550-a\r\n550-\r\n550\r\n":                          {550, "", "a"},
		"550 4.1.1 class of another code\r\n":               {550, "", "4.1.1 class of another code"},
		"550 5.1 not one\r\n":                               {550, "", "5.1 not one"},
		"550 5.1.1111 nor this\r\n":                         {550, "", "5.1.1111 nor this"},
		"550 5.1.1x nor this\r\n":                           {550, "", "5.1.1x nor this"},
		"550 5.7.509 Access denied\r\n":                     {550, "5.7.509", "Access denied"},
		"550 5.1.1\r\n":                                     {550, "5.1.1", ""},
		"550 tab\tand \x1b[31mred\x00 and \xc3\xbc\r\n":     {550, "", "tab and ?[31mred? and ??"},
		"250 " + strings.Repeat("a", 2000) + "\r\n":         {250, "", strings.Repeat("a", 507)},
		strings.Repeat("250-x\r\n", 127) + "250 x\r\n":      {250, "", strings.TrimSpace(strings.Repeat("x ", 128))},
		"220 mx ESMTP\r\n250 of the next reply is not seen": {220, "", "mx ESMTP"},
	} {
		got, err := readOne(in)
		if err != nil {
			t.Errorf("%.60q: %v", in, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%.60q: -want +got:\n%s", in, diff)
		}
	}
}

func TestWhatIsNoReplyIsRefused(t *testing.T) {
	for name, in := range map[string]string{
		"bare LF":          "250 Ok\n",
		"bare CR":          "250 O\rk\r\n",
		"no code":          "Ok\r\n",
		"empty line":       "\r\n",
		"two digits":       "25\r\n",
		"code below 200":   "199 x\r\n",
		"code above 559":   "560 x\r\n",
		"code of letters":  "2x0 x\r\n",
		"no space":         "250x\r\n",
		"codes differ":     "250-a\r\n251 b\r\n",
		"too many lines":   strings.Repeat("250-x\r\n", 128) + "250 x\r\n",
		"too long a line":  "250 " + strings.Repeat("x", 2100) + "\r\n",
		"no line end":      strings.Repeat("2", 70000),
		"too long in all":  strings.Repeat("250-"+strings.Repeat("x", 2000)+"\r\n", 20) + "250 x\r\n",
		"another protocol": "SSH-2.0-OpenSSH\r\n",
	} {
		if got, err := readOne(in); !errors.Is(err, errReply) {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
	for _, in := range []string{"", "250", "250 Ok", "250 Ok\r", "250-a\r\n"} {
		if got, err := readOne(in); !errors.Is(err, io.EOF) {
			t.Errorf("%q: got %v, %v", in, got, err)
		}
	}
}

// FuzzReply reads what strangers send: no panic, bounded, printable, and what is
// kept of a reply reads back as the same reply.
func FuzzReply(f *testing.F) {
	f.Add([]byte("250-mx\r\n250-PIPELINING\r\n250 SIZE 100\r\n"))
	f.Add([]byte("550-5.1.1 No\r\n550 5.1.1 such\r\n354 go\r\n421\r\n"))
	f.Add([]byte("250 \x00\xff\r\n25"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := newReplyReader(strings.NewReader(string(b)))
		for range 100 {
			got, err := r.read()
			if err != nil {
				return
			}
			if got.code < 200 || got.code > 559 || len(got.text) > maxReplySize {
				t.Fatalf("%d with %d octets", got.code, len(got.text))
			}
			parseExtensions(got.text)
			kept := got.keep()
			s := kept.String()
			if len(s) > maxKeptReply || strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) >= 0 {
				t.Fatalf("kept %q", s)
			}
			again, err := readOne(s + "\r\n")
			if err != nil || again.Code != kept.Code || again.Enhanced != kept.Enhanced && kept.Enhanced != "" {
				t.Fatalf("%q reads back as %v, %v", s, again, err)
			}
		}
	})
}
