package content

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"anechoic/mail"
)

// What is fast in this package has a slow form here, which says what it is to give:
// one octet or one character after the other, with nothing kept for the next.

// scraps are what texts of mail are made of, and where readers of them go wrong.
var scraps = []string{
	"order ", "Invoice 2024/7 ", "café ", "İstanbul ", "a", "w", "\u00ad", "٣", "x@y", "\xff", "\x00", "\t", " ", "\n", "\r\n", "\r", ".", ":", "/", "=", "=\r\n", "= \t\r\n", "=3D", "=c3=A9", "=4", "%41",
	"QUJD", "QQ==", "QUI=", "Q", "&", "&amp;", "&#58;", "&colon;", "&sol;", "&period;", "&nbsp;", "<", ">", "<b>", "</b>", "<a href=\"http://a.example/\">", "</a>", "<td class=x HREF = 'b'>", "<!--", "-->", "<style>", "</style>",
	"http://a.example/x", "HTTPS://b.example.", "www.c.example", "WWW.", "xwww.", "://", "1a://b", "a+b-c.d://e", "'", "\"", ")", "-", "--", "--b", "--b--", "begin 644 a.exe\n", strings.Repeat("y", lineBuffer-3), strings.Repeat("ab ", 40),
}

func anyText(t *rapid.T) string {
	return strings.Join(rapid.SliceOfN(rapid.OneOf(rapid.SampledFrom(scraps), rapid.SampledFrom(scraps), rapid.StringN(0, 5, 20)), 0, 60).Draw(t, "text"), "")
}

// slowPieces cuts a text into lines, and lines that are too long into pieces.
func slowPieces(text string) (pieces []string) {
	begin := 0
	for i := range len(text) {
		if text[i] == '\n' || i+1 == len(text) || i+1-begin == lineBuffer {
			pieces, begin = append(pieces, text[begin:i+1]), i+1
		}
	}
	return pieces
}

func slowUnescape(text string) (out []byte) {
	digit := func(i int) int {
		if i >= len(text) {
			return -1
		}
		return strings.IndexByte("0123456789abcdef", lowerOctet(text[i]))
	}
	for i := 0; i < len(text); i++ {
		if text[i] == '=' && digit(i+1) >= 0 && digit(i+2) >= 0 {
			out = append(out, byte(digit(i+1)*16+digit(i+2)))
			i += 2
			continue
		}
		out = append(out, text[i])
	}
	return out
}

func slowQuoted(text string) (out []byte) {
	for _, piece := range slowPieces(text) {
		line, ended := strings.CutSuffix(piece, "\n")
		if !ended {
			out = append(out, slowUnescape(piece)...)
			continue
		}
		line = strings.TrimRight(line, " \t\r\n")
		if soft, ok := strings.CutSuffix(line, "="); ok {
			out = append(out, slowUnescape(soft)...)
		} else {
			out = append(append(out, slowUnescape(line)...), "\r\n"...)
		}
	}
	return out
}

func slowBase64(text string) (out []byte) {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	bits, have := 0, 0
	flush := func() {
		for left := have * 6; left >= 8; left -= 8 {
			out = append(out, byte(bits>>(left-8)))
		}
		bits, have = 0, 0
	}
	for i := range len(text) {
		if v := strings.IndexByte(alphabet, text[i]); v >= 0 {
			bits, have = bits<<6|v, have+1
		}
		if text[i] == '=' || have == 4 {
			flush()
		}
	}
	flush()
	return out
}

func TestTransferEncodingsAreDecodedAsTheSlowWay(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) { sameOctets(t, anyText(rt)) })
}

// FuzzDecoded: whatever stands in a transfer encoding is decoded as the slow way does,
// in memory and piece by piece.
func FuzzDecoded(f *testing.F) {
	for _, s := range []string{"caf=C3=A9 =\r\n=4", "a \t\r\nb=\n", "QUJD\r\nRA==RQ", "Q=Q\x00UJ-D", "--b\r\n", strings.Repeat("=41", lineBuffer)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) { sameOctets(t, text) })
}

func sameOctets(t *testing.T, text string) {
	t.Helper()
	slow := map[string]func(string) []byte{"quoted-printable": slowQuoted, "base64": slowBase64, "7bit": func(s string) []byte { return []byte(s) }}
	for encoding, reference := range slow {
		want := reference(text)
		for way, l := range waysToRead(text) {
			got, err := io.ReadAll(l.decoded(encoding))
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%s, %s: %q is %q, want %q (%v)", encoding, way, text, got, want, err)
			}
			l.free()
		}
	}
}

// waysToRead are a body in memory, and one that comes in pieces.
func waysToRead(text string) map[string]*lines {
	return map[string]*lines{
		"in memory": linesIn([]byte(text)), "from a file": newLines(strings.NewReader(text)), "octet by octet": newLines(iotest.OneByteReader(strings.NewReader(text))),
	}
}

// slowWords gives the words that count, as they are summed.
func slowWords(t Text) (words []string) {
	word, letters, odd, tag := "", 0, false, false
	end := func() {
		if letters > 1 && !odd {
			words = append(words, word)
		}
		word, letters, odd = "", 0, false
	}
	for _, r := range t.Text {
		switch {
		case tag:
			tag = r != '>'
		case t.HTML && r == '<':
			tag = true
			end()
		case unicode.IsLetter(r):
			letters++
			word += string(unicode.ToLower(r))
		case unicode.IsDigit(r), r == '/', r == '@':
			odd = true
		case r == '.' && letters > 0:
		default:
			end()
		}
	}
	end()
	return words
}

func TestWordsAreSummedAsTheSlowWay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := Text{Text: strings.ToValidUTF8(anyText(t), ""), HTML: rapid.Bool().Draw(t, "html")}
		fast := visibleWords{text: text.Text, html: text.HTML}
		for _, word := range slowWords(text) {
			want := uint64(14695981039346656037) // FNV-1a, of characters
			for _, r := range word {
				want = (want ^ uint64(r)) * 1099511628211
			}
			if got, ok := fast.next(); !ok || got != want {
				t.Fatalf("%q in %q: %x, %v", word, text.Text, got, ok)
			}
		}
		if _, ok := fast.next(); ok {
			t.Fatalf("a word too many in %q", text.Text)
		}
	})
}

// slowLinks finds the links of a text: it tries at each octet whether one begins.
func slowLinks(text string) (urls []string) {
	scheme := func(c byte) bool {
		return c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || strings.IndexByte("+-.", c) >= 0
	}
	for at := 0; at < len(text); at++ {
		begin := -1
		if strings.HasPrefix(text[at:], "://") {
			for begin = at; begin > 0 && at-begin < maxScheme && scheme(text[begin-1]); {
				begin--
			}
			if begin == at || !isLetter(text[begin]) {
				begin = -1
			}
		} else if word := at - len("www"); text[at] == '.' && at+1 < len(text) && word >= 0 && strings.EqualFold(text[word:at], "www") && (word == 0 || strings.IndexByte(" \t\r\n<>()[]\"'*:;,=|", text[word-1]) >= 0) {
			begin = word
		}
		if begin < 0 {
			continue
		}
		end := at
		for end < len(text) && end-at < maxLink && text[end] > ' ' && strings.IndexByte("<>\"`", text[end]) < 0 {
			end++
		}
		url := strings.TrimRight(text[begin:end], `.,;:!?'"*_)]}`)
		if !strings.Contains(text[begin:end], "://") {
			url = "http://" + url
		}
		if _, ok := parseLink(url, nil); ok && !slices.Contains(urls, clip(url, maxLink)) {
			urls = append(urls, clip(url, maxLink))
		}
		at = end - 1
	}
	return urls
}

func TestLinksInTextAreFoundAsTheSlowWay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := strings.ToValidUTF8(anyText(t), "\ufffd")
		w := walk{limits: DefaultLimits()}
		w.plainLinks("here", text)
		var got []string
		for _, l := range w.content.Links {
			got = append(got, l.URL)
		}
		if diff := cmp.Diff(slowLinks(text), got); diff != "" {
			t.Fatalf("%q: (-slow +fast) %s", text, diff)
		}
	})
}

// TestABeginningTellsWhatAWholeTextTells: the first octets of a text say what all of
// the window says.
func TestABeginningTellsWhatAWholeTextTells(t *testing.T) {
	begins := []string{"\xef\xbb\xbf", "\xff\xfe", "\x00", " ", "\r\n\t", "<!DOCTYPE html>", "<HTML", "<\x00h\x00t\x00m\x00l\x00", "<svg", "<?xml version=\"1.0\"?>", "BEGIN:VCALENDAR", "<p>", "x", strings.Repeat("\n", firstLook), strings.Repeat("z", 3*textWindow)}
	rapid.Check(t, func(t *rapid.T) {
		head := []byte(strings.Join(rapid.SliceOfN(rapid.SampledFrom(begins), 0, 8).Draw(t, "text"), ""))
		window := textStart(nil, head[:min(len(head), 2*textWindow)])
		want := KindUnknown
		switch {
		case bytes.HasPrefix(window, []byte("begin:vcalendar")):
			want = KindCalendar
		case bytes.HasPrefix(window, []byte("<svg")), bytes.HasPrefix(window, []byte("<?xml")) && bytes.Contains(window, []byte("<svg")):
			want = KindSVG
		case beginsHTML(window):
			want = KindHTML
		}
		if got := kindOfText(head, "", ""); got != want {
			t.Fatalf("%.100q is %q, want %q", head, got, want)
		}
	})
}

// TestLinksAreJudgedTogetherAsAlone: what is kept of one link for the next changes
// no finding.
func TestLinksAreJudgedTogetherAsAlone(t *testing.T) {
	rules := Rules{Protected: Protect(domains(t, "acme.example", "microsoft.com")).And(domains(t, "partner.example"))}
	c := read(t, "Content-Type: text/html\n\n"+strings.Repeat(`<a href="http://rnicrosoft.com/a">x</a> <a href="http://rnicrosoft.com/b">www.microsoft.com</a> <a href="http://a.acme.example/">x</a>
<a href="http://acme.example.evil.com/">x</a> <a href="http://par-tner.example/">x</a> <a href="//0300.0.2.1/">acme.example</a> <a href="http://a@b%2eexample/">x</a> <img src="https://b.example/1"> http://b.example/2`, 2))
	var alone judge
	for i := range c.Links {
		alone.hosts = nil
		alone.link(&c.Links[i], &rules)
		if again, ok := parseLink(c.Links[i].URL, nil); !ok || again.Host != c.Links[i].Host || again.Domain != c.Links[i].Domain || again.Encoded != c.Links[i].Encoded {
			t.Errorf("%+v alone is %+v", c.Links[i], again)
		}
	}
	var together judge
	for i := range c.Links {
		together.link(&c.Links[i], &rules)
	}
	if diff := cmp.Diff(alone.found, together.found); diff != "" || len(together.found) < 5 {
		t.Errorf("%d findings: (-alone +together) %s", len(together.found), diff)
	}
}

// slowOrganisational climbs to the first name above which there is a public suffix.
func slowOrganisational(d mail.Domain) mail.Domain {
	if d.IsPublicSuffix() {
		return d
	}
	for !d.Parent().IsZero() && !d.Parent().IsPublicSuffix() {
		d = d.Parent()
	}
	return d
}

// TestRegisteredDomainsAreFoundAsTheSlowWay for each rule of the public suffix list,
// what is under it, and what its exceptions leave.
func TestRegisteredDomainsAreFoundAsTheSlowWay(t *testing.T) {
	list, err := os.ReadFile(filepath.Join(suites(t, "psl"), "public_suffix_list.dat"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(list)) {
		rule := strings.TrimSpace(line)
		if rule == "" || strings.HasPrefix(rule, "//") {
			continue
		}
		rule = strings.TrimPrefix(strings.ReplaceAll(rule, "*", "any"), "!")
		for _, name := range []string{rule, "a." + rule, "b.a." + rule} {
			d, err := mail.ParseDomain(name)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := organisational(d), slowOrganisational(d); got != want {
				t.Errorf("%s is under %s, want %s", d, got, want)
			}
		}
	}
}

// slowMajority counts each bit by itself.
func slowMajority(sums []uint64) (more uint64) {
	for bit := range 64 {
		n := 0
		for _, h := range sums {
			h = (h ^ h>>33) * 0xff51afd7ed558ccd
			n += int((h ^ h>>33) >> bit & 1)
		}
		if 2*n > len(sums) {
			more |= 1 << bit
		}
	}
	return more
}

func TestVotesAreCountedAsTheSlowWay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		few := rapid.SliceOfN(rapid.Uint64(), 1, 8).Draw(t, "few")
		sums := rapid.SliceOfN(rapid.SampledFrom(few), 0, printWords-shingle+1).Draw(t, "sums")
		var poll votes
		for _, h := range sums {
			poll.add(h)
		}
		if got, want := poll.majority(), slowMajority(sums); got != want {
			t.Fatalf("%x, want %x", got, want)
		}
	})
}

func TestABodyInAFileIsReadAsOneInMemory(t *testing.T) {
	dir := t.TempDir()
	check := func(name, text string) {
		m := messageOf(t, text)
		w := mail.BodyWriter{Dir: dir}
		if _, err := io.Copy(&w, m.Body.Reader()); err != nil {
			t.Fatal(err)
		}
		filed := mail.Message{Header: m.Header, Body: w.Body()}
		defer filed.Body.Close()
		for _, limits := range []Limits{{KeptText: 1 << 10}, tight} {
			if diff := cmp.Diff(factsOf(t, readFacts(t, m, limits)), factsOf(t, readFacts(t, filed, limits))); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
		if a, b := PrintOf(m), PrintOf(filed); a.String() != b.String() {
			t.Errorf("%s: prints %s and %s", name, a, b)
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		check("generated", "Content-Type: "+rapid.SampledFrom([]string{"text/html", "text/plain", "multipart/mixed; boundary=b", "message/rfc822"}).Draw(rt, "type")+
			"\nContent-Transfer-Encoding: "+rapid.SampledFrom([]string{"8bit", "base64", "quoted-printable"}).Draw(rt, "encoding")+"\n\n"+anyText(rt))
	})
	realMail(t, "mime", check)
}
