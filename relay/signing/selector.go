package signing

import (
	"fmt"
	"strconv"
	"strings"

	"anechoic/org"
)

// firstSelectors name the first key of a domain made without a name.
var firstSelectors = map[org.Algorithm]string{org.RSA2048: "an1", org.Ed25519: "an1e"}

// nextSelector counts on from a selector to the first that is not taken: an2
// after an1, an2e after an1e, s010 after s009, google2 after google.
func nextSelector(last string, taken func(string) bool) string {
	head, digits, tail := splitDigits(last)
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil { // no digits, or too many
		head, digits, tail, n = last, "", "", 1
	}
	for {
		n++
		next := fmt.Sprintf("%s%0*d%s", head, len(digits), n, tail)
		if !org.ValidSelector(next) { // it grew too long
			head, digits, tail, n = "an", "", "", 0
			continue
		}
		if !taken(next) {
			return next
		}
	}
}

// splitDigits cuts a selector at its last run of digits.
func splitDigits(s string) (head, digits, tail string) {
	const set = "0123456789"
	end := strings.LastIndexAny(s, set) + 1
	start := end
	for start > 0 && strings.IndexByte(set, s[start-1]) >= 0 {
		start--
	}
	return s[:start], s[start:end], s[end:]
}
