package migrate

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func prefixAddrs(list ...string) (addrs []netip.Addr) {
	for _, p := range prefixes(list...) {
		addrs = append(addrs, p.Addr())
	}
	return addrs
}

func TestMainIsReadAsPostfixReadsIt(t *testing.T) {
	s := parseMain("main.cf", "a = 1\n  # a remark\n\n  2\t3\nb=$a, ${a}x$$y\n#c = no\nc = ${a?yes}${none?no}${none:else}${a?{is}:{not}}${none?{is}:{ not }}\na = 4\nd=$(a)$\nself = x$self\nfar = $loop1\nloop1 = $far\nlist = p,q  r {s, t} ,u\nnothing\n")
	for name, want := range map[string]string{"a": "4", "b": "4, 4x$y", "c": "yeselseisnot", "d": "4", "self": "x", "far": "", "mydomain": "localdomain", "none": ""} {
		if got := s.Get(name).Text; got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if diff := cmp.Diff([]string{"p", "q", "r", "{s, t}", "u"}, s.List("list")); diff != "" {
		t.Error(diff)
	}
	if at := s.Get("a").At; at.Line != 8 {
		t.Errorf("the last setting of a is in line %d", at.Line)
	}
	if n := len(s.loops()); n != 3 || len(s.strays) != 1 {
		t.Errorf("%d loops, %d strays", n, len(s.strays))
	}
}

func TestTablesAreRead(t *testing.T) {
	f := &files{}
	at := Place{"main.cf", 1}
	for spec, want := range map[string]string{
		"inline:{a=b, {c = d e}}":                          "a=b c=d e",
		"cidr:{{192.0.2.0/24 OK}, {!10.0.0.0/8 REJECT x}}": "192.0.2.0/24=OK !10.0.0.0/8=REJECT x",
		"static:all":                    "*=all",
		"proxy:mysql:/etc/postfix/x.cf": "",
		"hash:relative":                 "",
	} {
		var got []string
		for _, e := range f.table(at, spec).Entries {
			got = append(got, e.Key+"="+e.Value)
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%s holds %q, want %q", spec, s, want)
		}
	}
	if len(f.unread) != 2 {
		t.Errorf("unread: %v", f.unread)
	}
	entries := parseTable("x", "/^a b$/i OK\n!/c\\/d/ REJECT no\nif /x/\n/y/ z\nendif\n", true)
	if len(entries) != 3 || entries[0].Key != "/^a b$/i" || entries[0].Value != "OK" || entries[1].Key != `!/c\/d/` || entries[2].Value != "z" {
		t.Errorf("%v", entries)
	}
}

func TestNetworksAreRead(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.1": "192.0.2.1/32", "192.0.2.1/24": "192.0.2.0/24", "[2001:db8::1]/64": "2001:db8::/64", "[2001:db8::1]": "2001:db8::1/128",
		"[::ffff:127.0.0.0]/104": "127.0.0.0/8", "host.example": "invalid Prefix", "192.0.2.1/x": "invalid Prefix", "1.2.3.4/33": "invalid Prefix",
	} {
		if got := parseNetwork(text).String(); got != want {
			t.Errorf("%s is %s, want %s", text, got, want)
		}
	}
	if partial("10.1") != "10.1.0.0/16" || partial("10.1.2.3") != "10.1.2.3" || partial("a.b") != "a.b" {
		t.Error("parts of addresses of access tables are read wrong")
	}
}

func TestUsersAreReadInEveryForm(t *testing.T) {
	var got []string
	for _, u := range parseUsers("users", "ann@relay.example: userPassword\nann@relay.example: cmusaslsecretOTP\n# no\nbob:{plain-md5}x:1\ncid:{CLEARTEXT}y\ndora\neve:abc\n") {
		got = append(got, u.Name+" "+u.Scheme)
	}
	if diff := cmp.Diff([]string{"ann@relay.example ", "bob PLAIN-MD5", "cid PLAIN", "dora ", "eve CRYPT"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestHopsAreRead(t *testing.T) {
	for text, want := range map[string]string{
		"smtp:[a.example]": "a.example:25", "relay:a.example:submission": "a.example:587", "lmtp:inet:a.example:24": "lmtp:a.example:24",
		"lmtp:unix:private/x": "", "local:": "", "smtp:[2001:db8::1]:26": "[2001:db8::1]:26", "smtp:[IPv6:2001:db8::1]": "[2001:db8::1]:25", "smtp:": "", "smtp:a:99999": "", "smtp:[a": "",
	} {
		if got := parseTransport(text); got != want {
			t.Errorf("%s leads to %q, want %q", text, got, want)
		}
	}
}

// TestNothingIsTrustedThatIsShared: the ranges a person knows count beside those here.
func TestNothingIsTrustedThatIsShared(t *testing.T) {
	own := []Shared{{"House", prefixes("192.0.2.0/24")}}
	for p, want := range map[string]string{"192.0.2.9/32": "House", "40.107.3.4/32": "Microsoft 365", "0.0.0.0/0": "Microsoft 365", "199.255.193.1/32": "Amazon SES", "203.0.113.9/32": ""} {
		if got := sharedBy(netip.MustParsePrefix(p), wellKnown, own); got != want {
			t.Errorf("%s is shared by %q, want %q", p, got, want)
		}
	}
}
