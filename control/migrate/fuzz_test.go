package migrate

import (
	"strings"
	"testing"
)

func FuzzParseMain(f *testing.F) {
	f.Add("a = $b ${c?{x}:{y}}\n  more\nb = $a\n")
	f.Add("mynetworks = 127.0.0.0/8, [::1]/128 !10.0.0.0/8 cidr:{{192.0.2.0/24 x}}\nmyhostname = a.example\n")
	f.Add("smtp inet n - n - - smtpd\n  -o { x = y z } -oa=b\n")
	f.Add("x=${${${${\n\xff\x00 =")
	f.Fuzz(func(t *testing.T, text string) {
		s := parseMain("main.cf", strings.ToValidUTF8(text, "\uFFFD"))
		for _, name := range s.order {
			if v := s.Get(name); len(v.Text) > 8*maxExpanded {
				t.Errorf("%d octets of %d", len(v.Text), len(text))
			}
		}
		s.loops()
		services, _ := parseMaster("master.cf", text)
		for i := range services {
			services[i].listens()
			s.over(services[i].Overrides).Get("mynetworks")
		}
		files := &files{root: "/nonexistent"}
		files.networks(Place{}, s.List("mynetworks"), 0)
		restrictions(s, "smtpd_relay_restrictions")
	})
}

func FuzzParseTable(f *testing.F) {
	f.Add("a@b.example  ann, bob\n/x y/i OK\nif /a/\n!/b/ c\nendif\n", "inline:{a=b,{c=d}}")
	f.Add("acme acme.example:s:/k\n*@x y\n# z\n", "cidr:{{10.0.0.0/8 OK}}")
	f.Add("ann:{PLAIN}x:1\nann@x: userPassword\n", "smtp:[a]:25")
	f.Fuzz(func(t *testing.T, text, spec string) {
		for _, patterns := range []bool{false, true} {
			for _, e := range parseTable("t", text, patterns) {
				parseTransport(e.Value)
				parseNetwork(partial(e.Key))
				lets(e.Value)
			}
		}
		for _, e := range datasetLines("t", text) {
			parseKey(e)
			signed(e, true)
			ownable(e.Key)
		}
		parseUsers("u", text)
		(&files{root: "/nonexistent"}).table(Place{}, spec)
		convertKey([]byte(text))
	})
}
