package content

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHostsAreReadAsBrowsersDo(t *testing.T) {
	for _, c := range []struct {
		url, scheme, host string
		marks             string
	}{
		{"http://a.example/x", "http", "a.example", ""},
		{"HTTPS://A.Example:8443/x", "https", "a.example", ""},
		{"  https://a.example.", "https", "a.example", ""},
		{"//a.example/x", "http", "a.example", ""},
		{"http:a.example", "http", "a.example", ""},
		{"http:////a.example/", "http", "a.example", ""},
		{`http:\\a.example\x`, "http", "a.example", "encoded"},
		{`\\a.example\share`, "file", "a.example", ""},
		{"http://bank.example@evil.example/", "http", "evil.example", "user"},
		{"http://bank.example:x@evil.example", "http", "evil.example", "user"},
		{`http://evil.example\@bank.example/`, "http", "evil.example", ""},
		{"http://evil.example#@bank.example/", "http", "evil.example", ""},
		{"http://%65vil.example/", "http", "evil.example", "encoded"},
		{"ht\ntp://evil.example/", "http", "evil.example", "encoded"},
		{"http://münchen.example/", "http", "xn--mnchen-3ya.example", ""},
		{"http://xn--mnchen-3ya.example/", "http", "xn--mnchen-3ya.example", ""},
		{"http://ｅvil．example/", "http", "evil.example", "encoded"},
		{"http://192.0.2.1/", "http", "192.0.2.1", "address"},
		{"http://3221225985/", "http", "192.0.2.1", "address odd"},
		{"http://0xc0.0x00.0x02.0x01/", "http", "192.0.2.1", "address odd"},
		{"http://0300.0.2.1/", "http", "192.0.2.1", "address odd"},
		{"http://192.513/", "http", "192.0.2.1", "address odd"},
		{"http://[2001:db8::1]:80/", "http", "2001:db8::1", "address"},
		{"http://a_b.shop.example/", "http", "a_b.shop.example", ""},
		{"javascript:alert(1)", "javascript", "", ""},
		{"mailto:a@a.example", "mailto", "", ""},
		{"data:text/html,x", "data", "", ""},
	} {
		l, ok := parseLink(c.url, nil)
		var marks []string
		for word, on := range map[string]bool{"user": l.UserInfo, "encoded": l.Encoded} {
			if on {
				marks = append(marks, word)
			}
		}
		if l.Address.IsValid() {
			marks = append(marks, "address")
		}
		if l.OddForm {
			marks = append(marks, "odd")
		}
		if got := strings.Join(marks, " "); !ok || l.Scheme != c.scheme || l.Host != c.host || got != c.marks {
			t.Errorf("%q: scheme %q, host %q, %q; want %q, %q, %q", c.url, l.Scheme, l.Host, got, c.scheme, c.host, c.marks)
		}
	}
	for _, relative := range []string{"", "x", "/x", "?x", "#x", "1http://x", "ä:x"} {
		if l, ok := parseLink(relative, nil); ok {
			t.Errorf("%q is %+v", relative, l)
		}
	}
}

func TestLinksAreFoundInText(t *testing.T) {
	c := read(t, "Subject: x\n\nSee <http://one.example/a>, (https://two.example/b). Or www.three.example! WWW.four.example, xwww.no.example ://no a://b http://one.example/a\nmailto:a@a.example ftp://five.example")
	var got []string
	for _, l := range c.Links {
		got = append(got, l.URL)
	}
	want := []string{"http://one.example/a", "https://two.example/b", "http://www.three.example", "http://WWW.four.example", "a://b", "ftp://five.example"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestLinksOfAPageAreJudged(t *testing.T) {
	rules := Rules{Protected: Protect(domains(t, "acme.example", "microsoft.com"))}
	for _, c := range []struct{ behaviour, page, want string }{
		{"a plain link", `<a href="http://shop.example/">our shop</a>`, ""},
		{"a link that shows itself", `<a href="http://www.shop.example/x?y">shop.example/x</a>`, ""},
		{"a link that shows another domain", `<a href="http://click.com/">http://www.shop.org/</a>`, "link-other-text:note"},
		{"a link that shows a protected domain", `<a href="http://click.com/">www.microsoft.com</a>`, "link-other-text:suspicious"},
		{"a link that shows it in pieces", `<a href="http://click.com/">www.<b>micro</b>soft.com</a>`, "link-other-text:suspicious"},
		{"an entity in the scheme", `<a href="&#106;avascript:x()">x</a>`, "link-script:suspicious"},
		{"a line end in the scheme", "<a href=\"java\nscript:x()\">x</a>", "link-script:suspicious"},
		{"a page in a link", `<a href="data:text/html;base64,PHA+">x</a>`, "link-script:suspicious"},
		{"a picture in the page", `<img src="data:image/png;base64,AAAA">`, ""},
		{"a name before the host", `<a href="https://www.microsoft.com@evil.com/">x</a>`, "link-user-info:suspicious"},
		{"an address", `<a href="http://192.0.2.1/">x</a>`, "link-address:note"},
		{"an address in a strange form", `<a href="http://0xc0000201/">x</a>`, "link-disguised:suspicious"},
		{"a share of Windows", `<img src="\\192.0.2.1\a">`, "link-local:suspicious"},
		{"a program of the system", `<a href="ms-msdt:/id">x</a>`, "link-local:suspicious"},
		{"a look-alike", `<a href="https://rnicrosoft.com/">x</a>`, "link-look-alike:dangerous"},
		{"a look-alike by letters", `<a href="https://miсrosoft.com/">x</a>`, "link-look-alike:dangerous link-letters:suspicious"},
		{"a page that leads elsewhere", `<meta http-equiv="Refresh" content="0; URL='http://evil.com/'">`, "link-refresh:suspicious"},
		{"where a form goes", `<form action="http://acme.example.evil.com/"></form>`, "link-look-alike:suspicious"},
		{"what a base leads to", `<base href="http://rnicrosoft.com/"><a href="x">x</a>`, "link-look-alike:dangerous"},
		{"what a style loads", `<style>a{b:URL( 'http://rnicrosoft.com/x' )}</style><p style="background:url(http://microsoft.com/)">`, "link-look-alike:dangerous"},
		{"a link in the text of a page", `<p>see http://rnicrosoft.com/ please`, "link-look-alike:dangerous"},
		{"a link that nothing ends", `<a href="http://rnicrosoft.com/">x`, "link-look-alike:dangerous"},
	} {
		t.Run(c.behaviour, func(t *testing.T) {
			content := read(t, "From: a@a.example\nContent-Type: text/html; charset=utf-8\n\n"+c.page)
			if got := codes(Judge(content, rules)); got != c.want {
				t.Errorf("findings %q, want %q\n%+v", got, c.want, content.Links)
			}
		})
	}
}

// TestLinksTakeTimeInProportion reads texts that make a careless search look at
// everything again for each link: such a test would not end.
func TestLinksTakeTimeInProportion(t *testing.T) {
	for _, piece := range []string{"://", "a://", "www.", "WWW.", "w", "http://", "a:", "url(", "<a href=x>", "<", "x=", "\"", "&", "&c", ":&", "w.", "<b>:", "<b x>.", "</b>&"} {
		text := strings.Repeat(piece, (1<<18)/len(piece))
		read(t, "Subject: x\n\n"+text)
		read(t, "Content-Type: text/html\n\n<style>"+text)
		read(t, "Content-Type: text/html\n\n<a href=\""+text)
		read(t, "Content-Type: text/calendar\n\nX:"+text)
	}
}
