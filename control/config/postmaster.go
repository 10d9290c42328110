package config

import (
	"fmt"

	"anechoic/mail"
	"anechoic/org"
)

// The relay's own postmaster (RFC 5321 section 4.5.1). Mail for it goes to one address, which
// lies in a domain whose mail comes in here: it is judged as all inbound mail is, and handed to
// that organisation's own server. Nothing is forwarded to strangers: what anybody may send
// here would leave from here, and a rewritten sender would be needed.

const postmasterHint = `an address in one of the domains of an [[organisation.inbound]]: postmaster = "ops@customer.example"`

func (c *checker) postmaster(text string) mail.Address {
	if text == "" {
		return mail.Address{}
	}
	a, err := mail.ParseAddress(text)
	if err != nil {
		c.refuse("postmaster", postmasterHint, "%v", err)
	}
	return a
}

// postmasterInside refuses a postmaster whose mail does not come in here, or whom his
// organisation does not know.
func (c Config) postmasterInside(dir *org.Directory) []org.Problem {
	a := c.Postmaster
	if a.IsZero() {
		return nil
	}
	refuse := func(hint, format string, args ...any) []org.Problem {
		return []org.Problem{{Where: "postmaster", Message: fmt.Sprintf(format, args...), Hint: hint}}
	}
	route, ok := dir.InboundFor(a.Domain())
	switch {
	case !ok:
		return refuse(postmasterHint, "the mail of %s does not come in here, and the relay forwards to nobody else", a.Domain())
	case route.Lists() && !route.Listed(a):
		return refuse("add it to that list, or name somebody who is on it", "%s is not on the list of recipients of %s", a, route.Organisation)
	}
	return nil
}

// Notes tells what a node does without, that is neither wrong nor a risk.
func (c Config) Notes() (notes []string) {
	if c.Postmaster.IsZero() {
		notes = append(notes, fmt.Sprintf(`mail to postmaster@%s is refused, and RFC 5321 section 4.5.1 wants somebody to read it: postmaster = "ops@customer.example" names who does, in a domain whose mail comes in here`, c.Hostname))
	}
	return notes
}
