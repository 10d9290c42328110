package content

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/net/html"

	"anechoic/mail"
)

// pages are what is hard to read in HTML, and what most pages are made of.
var pages = []string{
	`<!DOCTYPE html><html><head><title>A &amp; b.example</title><style>p { background: url(http://a.example/x.png) }</style></head><body>` +
		"\r\n<p class=\"x\">See http://b.example/?a=1&amp;b=2 &middot; <A HREF='https://c.example/?x=1&amp;y=2'>www.d.example <b>and</b>\r\nmore</A></p><img src=http://e.example/i.gif /><br/></body></html>",
	`<!--[if mso]><table><tr><td><![endif]--><a href="http://a.example">x</a><!-- > -- b --><a href=http://b.example/>y</a>`,
	`<script>if (a < b) { location = "http://a.example/" } // </scripts></script><noscript><img src="http://b.example/"></noscript><form action=//c.example><input type=PassWord>`,
	`<script><!-- <script> </script> --> x http://a.example </script><a href=http://b.example>`,
	`<meta http-equiv="Refresh" content="0; url=http://a.example/"><base href=http://b.example><body onload="x()" style="background:url('http://c.example')">`,
	`a < b http://a.example <3 <<a href=http://b.example>b</a></ a></><?xml version="1.0"?><!x><!-><!--><!---><!--x--!><a/href=http://c.example/ =y =/z x = 'http://d.example' x=2>`,
	`<a href="http://a.example/?a=1&lt=2&copy;&quot">t&#46;example</a><textarea><a href=http://b.example></textarea><xmp>http://c.example</xmp><plaintext><a href=http://d.example>`,
	`<a href=http://a.example title=">" href=http://b.example>x</a title=">">y<a href="http://c.example`,
	`<iframe srcdoc="<a href=http://a.example>" src=http://b.example></iframe ><STYLE>a{b:url(http://c.example</style`,
}

// FuzzPage: whatever scan reads it reads as the library's tokenizer does.
func FuzzPage(f *testing.F) {
	for _, s := range pages {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		samePage(t, s)
	})
}

func samePage(t *testing.T, s string) {
	t.Helper()
	ours, library := walk{limits: tight}, walk{limits: tight}
	f, g := File{Place: "here"}, File{Place: "here"}
	ours.html(&f, s)
	p := page{w: &library, file: &g}
	p.tokens(html.NewTokenizer(strings.NewReader(s)))
	p.endLink()
	equal := cmp.Options{cmpopts.EquateComparable(mail.Domain{}, mail.Address{}, netip.Addr{}), cmpopts.EquateEmpty()}
	if d := cmp.Diff(g, f, equal); d != "" {
		t.Errorf("%q: %s", s, d)
	}
	if d := cmp.Diff(library.content, ours.content, equal); d != "" {
		t.Errorf("%q: (-library +ours) %s", s, d)
	}
}

func TestPagesAreReadAsTheLibraryDoes(t *testing.T) {
	for _, s := range pages {
		for cut := range len(s) { // a page may end anywhere
			samePage(t, s[:cut])
		}
		samePage(t, s)
	}
}

// TestAnOrdinaryPageIsScanned to its end, without the library.
func TestAnOrdinaryPageIsScanned(t *testing.T) {
	for _, s := range pages[:3] {
		w := walk{limits: tight}
		p := page{w: &w, file: &File{Place: "here"}}
		if at := p.scan(s); at != len(s) {
			t.Errorf("it stops at %q", s[at:])
		}
	}
}
