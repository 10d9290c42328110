package content

import (
	"net/netip"
	"strconv"
	"strings"

	"anechoic/mail"
)

// maxLink is the longest address of a link that is kept, in octets; the host stands
// at its beginning.
const maxLink = 2 << 10

// Link is one address that a message leads to or loads.
type Link struct {
	Place   string      // the part it is in
	Where   string      // "text", or the HTML attribute: href, src, action, refresh, base, …
	URL     string      // as it was written, entities resolved, at most 2 KiB
	Scheme  string      // in small letters; http where only a host was written
	Host    string      // as programs read it: A-labels or an address; empty: none
	Domain  mail.Domain // zero: the host is no domain name
	Address netip.Addr  // of a host that is an address, in whatever form it was written
	Text    string      // what a reader sees in the place of an href

	UserInfo bool // something stands before an @ in front of the host
	Encoded  bool // the host is written so that a reader can not see it: %, \, line ends, wide letters
	OddForm  bool // an address that is not written as four decimal numbers
}

// parseLink reads an address as browsers do (the URL Standard of WHATWG, sections
// 4.4 and 3.5, as far as hosts go). false: it is relative, or leads nowhere.
func parseLink(s string, known hosts) (Link, bool) {
	l := Link{URL: clip(strings.ToValidUTF8(s, "\ufffd"), maxLink)}
	text := l.URL
	for text != "" && text[0] <= ' ' {
		text = text[1:]
	}
	for text != "" && text[len(text)-1] <= ' ' {
		text = text[:len(text)-1]
	}
	plain := withoutBreaks(text)
	broken := len(plain) != len(text)
	if strings.HasPrefix(plain, `\\`) { // a share of Windows, or a link without scheme
		l.Scheme, plain = "file", plain[2:]
	} else if rest, ok := strings.CutPrefix(plain, "//"); ok {
		l.Scheme, plain = "http", rest
	} else if scheme, rest, ok := strings.Cut(plain, ":"); ok && isScheme(scheme) {
		l.Scheme, plain = strings.ToLower(scheme), rest
	} else {
		return Link{}, false
	}
	if l.hasHost() {
		l.authority(strings.TrimLeft(plain, `/\`), known)
		l.Encoded = l.Encoded || broken && l.Host != "" || strings.HasPrefix(strings.TrimLeft(plain, "/"), `\`)
	}
	return l, true
}

// breaks are what browsers take out of an address.
var breaks = strings.NewReplacer("\t", "", "\n", "", "\r", "")

func withoutBreaks(s string) string {
	if strings.IndexByte(s, '\n') < 0 && strings.IndexByte(s, '\r') < 0 && strings.IndexByte(s, '\t') < 0 {
		return s
	}
	return breaks.Replace(s)
}

// maxScheme is longer than any scheme.
const maxScheme = 32

// isScheme is scheme of RFC 3986 section 3.1.
func isScheme(s string) bool {
	for i := range len(s) {
		c := s[i] | 0x20
		if !(c >= 'a' && c <= 'z') && (i == 0 || !(s[i] >= '0' && s[i] <= '9') && s[i] != '+' && s[i] != '-' && s[i] != '.') {
			return false
		}
	}
	return s != "" && len(s) <= maxScheme
}

// hasHost says that what follows the scheme is a host.
func (l *Link) hasHost() bool {
	switch l.Scheme {
	case "http", "https", "ftp", "ws", "wss", "file":
		return true
	}
	return false
}

// authority reads user information, host and port (RFC 3986 section 3.2; a
// backslash ends it as a slash does).
func (l *Link) authority(s string, known hosts) {
	end := 0
	for end < len(s) && !endsAuthority[s[end]] {
		end++
	}
	s = s[:end]
	if at := strings.LastIndexByte(s, '@'); at >= 0 {
		l.UserInfo, s = true, s[at+1:]
	}
	if strings.HasPrefix(s, "[") {
		inner, _, _ := strings.Cut(s[1:], "]")
		l.Address, _ = netip.ParseAddr(inner)
		l.Host = l.Address.String()
		return
	}
	s, _, _ = strings.Cut(s, ":")
	h := known.read(s)
	l.Host, l.Domain, l.Address, l.Encoded, l.OddForm = h.name, h.domain, h.address, h.encoded, h.oddForm
}

// host is what the host of a link is: the fields of Link.
type host struct {
	name             string
	domain           mail.Domain
	address          netip.Addr
	encoded, oddForm bool
}

// hosts are those that were read, as they were written: most links of a message
// lead to few. nil: none are kept.
type hosts map[string]host

func (known hosts) read(s string) host {
	h, ok := known[s]
	if !ok {
		h = readHost(s)
		if known != nil {
			known[s] = h
		}
	}
	return h
}

// readHost reads a name or an address in one of its forms.
func readHost(s string) (h host) {
	decoded := strings.ToValidUTF8(string(appendUnescaped(nil, []byte(s), '%')), "\ufffd")
	h.encoded = decoded != s
	name := strings.TrimRight(decoded, ".")
	if address, odd, ok := parseIPv4(name); ok {
		h.address, h.oddForm, h.name = address, odd, address.String()
		return h
	}
	domain, err := mail.ParseDomain(name)
	if err != nil {
		h.name = clip(strings.ToLower(name), mail.MaxDomain)
		h.domain = behindUnderscores(h.name)
		return h
	}
	h.domain, h.name = domain, domain.String()
	h.encoded = h.encoded || !isASCII(name) && isASCII(h.name) && !strings.Contains(h.name, "xn--") // wide letters become plain ones
	return h
}

// behindUnderscores is the domain above the labels with _, which browsers take and
// which are no names for mail.
func behindUnderscores(host string) mail.Domain {
	_, rest, _ := strings.Cut(host[strings.LastIndexByte(host, '_')+1:], ".")
	d, _ := mail.ParseDomain(rest) // no domain: the zero one
	return d
}

// parseIPv4 reads an address as browsers do: one to four numbers, each decimal,
// octal or hexadecimal, the last for all octets that are left.
func parseIPv4(s string) (a netip.Addr, odd, ok bool) {
	if last := strings.LastIndexByte(s, '.') + 1; last == len(s) || s[last] < '0' || s[last] > '9' || strings.Count(s, ".") > 3 {
		return netip.Addr{}, false, false // nearly every host: the last number begins with a digit
	}
	words := strings.Split(s, ".")
	var all uint64
	for i, word := range words {
		base, digits := 10, strings.ToLower(word)
		if rest, hex := strings.CutPrefix(digits, "0x"); hex {
			base, digits, odd = 16, rest, true
		} else if len(digits) > 1 && digits[0] == '0' {
			base, digits, odd = 8, digits[1:], true
		}
		n, err := strconv.ParseUint(digits, base, 32)
		last := i == len(words)-1
		if err != nil || !last && n > 0xff || last && n >= 1<<(8*(5-len(words))) {
			return netip.Addr{}, false, false
		}
		if last {
			all = all<<(8*(5-len(words))) | n
		} else {
			all = all<<8 | n
		}
	}
	return netip.AddrFrom4([4]byte{byte(all >> 24), byte(all >> 16), byte(all >> 8), byte(all)}), odd || len(words) < 4, true
}

// maxSeen is how many links are looked at for each that may be kept.
const maxSeen = 20

// linkKey is what makes links the same.
type linkKey struct{ where, url, text string }

// link keeps a link, once for each place in which it differs.
func (w *walk) link(place, where, url, text string) {
	if len(w.links) >= maxSeen*w.limits.Links {
		w.cut("links")
		return
	}
	key := linkKey{where, clip(url, maxLink), text}
	if w.links[key] {
		return
	}
	if w.links == nil {
		w.links, w.hosts = map[linkKey]bool{}, hosts{}
	}
	l, ok := parseLink(url, w.hosts)
	if !ok || l.Scheme == "cid" || l.Scheme == "mailto" {
		return
	}
	w.links[key] = true
	if len(w.content.Links) >= w.limits.Links {
		w.cut("links")
		return
	}
	l.Place, l.Where, l.Text = place, where, text
	w.content.Links = append(w.content.Links, l)
}

// octetSet is a set of octets. A look-up costs less than a comparison with each.
type octetSet [256]bool

func octetsOf(s string) (set octetSet) {
	for i := range len(s) {
		set[s[i]] = true
	}
	return set
}

// What is around links in a text.
var (
	beforeWWW   = octetsOf(" \t\r\n<>()[]\"'*:;,=|")
	behindLink  = octetsOf(`.,;:!?'"*_)]}`)
	schemeOctet = octetsOf("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.")

	endsAuthority = octetsOf(`/\?#`)
	endsLink      = func() octetSet {
		set := octetsOf("<>\"`")
		for c := range ' ' + 1 {
			set[c] = true
		}
		return set
	}()
)

// plainLinks finds links in a text: what has a scheme and two slashes, and what
// begins with www. It looks at each octet a bounded number of times.
func (w *walk) plainLinks(place, text string) {
	colon, dot := -1, -1 // the next ones, from at on; len(text): there is none
	for at := 0; at < len(text); at++ {
		colon, dot = nextOctet(text, colon, at, ':'), nextOctet(text, dot, at, '.')
		if at = min(colon, dot); at == len(text) {
			return
		}
		begin := linkBegin(text, at)
		if begin < 0 {
			continue
		}
		word := text[begin:linkEnd(text, at)]
		at = begin + len(word) - 1
		url := word
		for url != "" && behindLink[url[len(url)-1]] {
			url = url[:len(url)-1]
		}
		if !strings.Contains(word, "://") {
			url = "http://" + url
		}
		w.link(place, "text", url, "")
	}
}

// nextOctet gives where c stands next, from at on, if it was found at found before.
func nextOctet(text string, found, at int, c byte) int {
	if found >= at {
		return found
	}
	if i := strings.IndexByte(text[at:], c); i >= 0 {
		return at + i
	}
	return len(text)
}

// linkBegin gives where the link begins of which text[at] shows that it is one: the
// colon behind a scheme, or the dot behind www. -1: there is none.
func linkBegin(text string, at int) int {
	switch text[at] {
	case ':':
		if !strings.HasPrefix(text[at:], "://") {
			return -1
		}
		begin := at
		for begin > 0 && at-begin < maxScheme && schemeOctet[text[begin-1]] {
			begin--
		}
		if isScheme(text[begin:at]) {
			return begin
		}
	case '.':
		begin := at - len("www")
		if begin >= 0 && len(text)-at > 1 && strings.EqualFold(text[begin:at], "www") && (begin == 0 || beforeWWW[text[begin-1]]) {
			return begin
		}
	}
	return -1
}

// linkEnd gives where a link that begins in a text ends: at space, at a quote or an
// angle bracket, or where it is long enough.
func linkEnd(text string, begin int) int {
	end, most := begin, min(len(text), begin+maxLink)
	for end < most && !endsLink[text[end]] {
		end++
	}
	return end
}
