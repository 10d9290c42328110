package detect

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/net/publicsuffix"
)

// maxText is how much of a text that a stranger wrote is kept.
const maxText = 100

// clean makes a stranger's text printable and short: what is not a printable ASCII
// character is a question mark.
func clean(s string) string {
	if len(s) <= maxText && isPrintable(s) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if b.Len() >= maxText {
			break
		}
		if r < ' ' || r > '~' || r == utf8.RuneError {
			r = '?'
		}
		b.WriteRune(r)
	}
	return b.String()
}

func isPrintable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// localOf is the local part of an address.
func localOf(address string) string {
	if at := strings.LastIndexByte(address, '@'); at >= 0 {
		return address[:at]
	}
	return address
}

// site is the organisational domain of a host, or the host where it has none.
func site(host string) string {
	name, err := publicsuffix.EffectiveTLDPlusOne(host)
	if err != nil {
		return host
	}
	return name
}

// freeMail are providers at which everybody has an address: where campaigns write
// to. Names with a dot at the end stand for all countries.
var freeMail = setOf("gmail.com googlemail.com yahoo. ymail.com rocketmail.com hotmail. outlook. live. msn.com aol. icloud.com me.com mac.com " +
	"gmx. web.de t-online.de freenet.de mail.ru inbox.ru bk.ru list.ru yandex. ya.ru rambler.ru proton.me protonmail.com pm.me qq.com 163.com 126.com sina.com " +
	"orange.fr wanadoo.fr free.fr laposte.net sfr.fr libero.it virgilio.it tiscali.it comcast.net att.net verizon.net sbcglobal.net bellsouth.net cox.net charter.net " +
	"btinternet.com sky.com zoho.com naver.com hanmail.net daum.net rediffmail.com uol.com.br bol.com.br terra.com.br mail.com tutanota.com fastmail.com hey.com seznam.cz wp.pl o2.pl interia.pl onet.pl")

func setOf(words string) map[string]bool {
	set := map[string]bool{}
	for w := range strings.FieldsSeq(words) {
		set[w] = true
	}
	return set
}

// isFreeMail says that a domain, in small letters, is a free-mail provider's.
func isFreeMail(domain string, more map[string]bool) bool {
	if freeMail[domain] || more[domain] {
		return true
	}
	dot := strings.IndexByte(domain, '.')
	return dot > 0 && freeMail[domain[:dot+1]]
}
