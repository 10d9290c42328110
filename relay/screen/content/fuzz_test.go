package content

import (
	"net/netip"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"anechoic/mail"
)

// tight limits, so that a fuzzer meets them.
var tight = Limits{Depth: 5, Parts: 20, PartHeader: 2 << 10, Text: 16 << 10, Links: 20, Files: 30, ArchiveDepth: 2, ArchiveMemory: 64 << 10, Unpacked: 256 << 10}

// printable says that a finding can be shown as it is.
func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) })
}

func FuzzContent(f *testing.F) {
	f.Add([]byte(attachment("application/zip", `attachment; filename="a.zip"`, zipOf("../b.pdf.exe", string(windowsProgram)))))
	f.Add([]byte(attachment("application/gzip", `attachment; filename*0*=utf-8''a%2e; filename*1="tar.gz"`, gzipOf(tarOf("a/b.js", "x")))))
	f.Add([]byte(attachment("application/msword", `attachment; filename="=?utf-8?b?YS5kb2M=?="`, append([]byte("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"), oleEncrypted...))))
	f.Add([]byte("From: \"ceo@b.example\" <a@a.example>\nReply-To: x@y.example, \"z\" <z@z.example>\nContent-Type: text/html\nContent-Transfer-Encoding: quoted-printable\n\n<a href=3D\"http://b.example@a.example/\">http://c.exam=\nple</a>"))
	f.Add([]byte("From: a@a.example\nContent-Type: multipart/digest; boundary=x\n\n--x\n\nSubject: s\nContent-Type: message/partial\n\nbegin 644 a.exe\n--x--"))
	rules := Rules{Blocked: DefaultBlocked(), Protected: Protect(domains(f, "acme.example", "example.com")), People: NewPeople([]string{"Ada Lovelace"}), Own: domains(f, "acme.example")}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Read(messageOf(t, string(text)), tight)
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Links) > tight.Links || len(c.Files) > 2*tight.Parts+tight.Files {
			t.Fatalf("%d links and %d files", len(c.Links), len(c.Files))
		}
		for _, finding := range Judge(c, rules) {
			if !printable(finding.Text) || !printable(finding.Place) {
				t.Errorf("a finding is not safe to print: %q %q", finding.Place, finding.Text)
			}
		}
	})
}

func FuzzURLs(f *testing.F) {
	for _, s := range []string{"http://a.example/", "HTTP:\\\\u:p@0x7f.1/", "https://[::1]:80/", "//x%2e.example", "javascript:alert(1)", "http://münchen.example", "see www.a.example, or ftp://b.example/c.", "http://a_b.c.example", "\t htt\nps:/x@y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if l, ok := parseLink(s, nil); ok {
			if len(l.URL) > maxLink || !l.Domain.IsZero() && l.Address.IsValid() {
				t.Errorf("%q is %+v", s, l)
			}
			if l.Address.IsValid() {
				if again, err := netip.ParseAddr(l.Host); err != nil || again != l.Address {
					t.Errorf("%q has the host %q and the address %v", s, l.Host, l.Address)
				}
			}
		}
		w := walk{limits: tight}
		w.plainLinks("here", s)
		for _, l := range w.content.Links {
			if l.URL == "" || len(s) < len(l.URL)-len("http://") && utf8.ValidString(s) {
				t.Errorf("%q has a link %q", s, l.URL)
			}
		}
		_ = domainShown(s)
	})
}

func FuzzCalendar(f *testing.F) {
	f.Add("BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nORGANIZER;CN=\"a:b\";SENT-BY=\"mailto:c@c.example\":mailto:a@\r\n a.example\r\nATTENDEE;RSVP=TRUE:MAILTO:b%40b.example\r\nEND:VCALENDAR")
	f.Add("ORGANIZER:mailto:\nATTENDEE\n \n:\n;=:")
	f.Fuzz(func(t *testing.T, text string) {
		v, _ := readCalendar(text)
		if len(v.Organizers) > maxAttendees || len(v.Attendees) > maxAttendees {
			t.Errorf("%d organizers, %d attendees", len(v.Organizers), len(v.Attendees))
		}
		for _, o := range v.Organizers {
			if o.Address.IsZero() {
				t.Errorf("an organizer without address in %q", text)
			}
		}
		for line := range unfolded(text) {
			if len(line) > maxCalLine || strings.ContainsAny(line, "\n") {
				t.Errorf("a line of %d octets", len(line))
			}
		}
	})
}

func FuzzSkeleton(f *testing.F) {
	for _, s := range []string{"paypal", "раураl", "rnicrosoft", "\u202eexe.fdp", "ﬁ", "é\u0301\u0301", "\xff\xfe", "xn--80ak6aa92e"} {
		f.Add(s)
	}
	protected := Protect(domains(f, "acme.example", "microsoft.com"))
	f.Fuzz(func(t *testing.T, s string) {
		k := Skeleton(s)
		if !utf8.ValidString(k) {
			t.Errorf("the skeleton of %q is %q", s, k)
		}
		if len(k) > 54*len(s)+3 { // the longest text of the table, taken apart
			t.Errorf("%d octets become %d", len(s), len(k))
		}
		if again := Skeleton(k); len(again) > 54*len(k)+3 {
			t.Errorf("%q", k)
		}
		MixesScripts(s)
		d, err := mail.ParseDomain(s)
		if err != nil {
			return
		}
		if own, trick := protected.LookAlike(d); trick != TrickNone && (d.Within(own) || own.IsZero()) {
			t.Errorf("%s imitates %s by %s", d, own, trick)
		}
		disguised(d)
	})
}
