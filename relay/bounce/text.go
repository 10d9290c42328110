package bounce

import (
	"fmt"
	"strings"
	"time"
)

// writeText writes the part for people: what happened to whom, why, and what
// can be done.
func writeText(b *strings.Builder, r Report) {
	writeParagraph(b, "", "Hello, this is the mail relay at "+r.Hostname+". "+lead(r))
	for _, f := range r.Failures {
		b.WriteString("\r\n")
		writeParagraph(b, "", ascii(f.Recipient.Address.String()))
		writeParagraph(b, "  ", cause(r, f))
		if f.Reply != "" {
			writeParagraph(b, "    ", ascii(f.Reply))
		}
		if r.Action == Failed {
			writeParagraph(b, "  ", "What you can do: "+advice(status(r.Action, f)))
		}
	}
	b.WriteString("\r\n")
	writeParagraph(b, "", fmt.Sprintf("If you ask your postmaster for help, name this message as %s.", r.About))
}

// lead says in two sentences what the report is about.
func lead(r Report) string {
	who := "the recipient below."
	if n := len(r.Failures); n > 1 {
		who = fmt.Sprintf("the %d recipients below.", n)
	}
	switch r.Action {
	case Delayed:
		until := ""
		if !r.Expires.IsZero() {
			until = ", until " + r.Expires.UTC().Format("2 January 2006, 15:04 UTC")
		}
		return "Your message could not be delivered yet to " + who + " You need not do anything: attempts go on" + until + "."
	case Relayed:
		return "As you asked to be told: your message was handed on for " + who + " The next server gives no reports, so you will hear of its delivery no more unless it fails."
	case Delivered:
		return "As you asked to be told: your message was delivered to " + who
	}
	if len(r.Failures) > 0 && r.Failures[0].Later {
		return "Your message was handed on, but later a report came back that it could not be delivered to " + who + " Other recipients of the message, if it had any, are not concerned."
	}
	return "Your message could not be delivered to " + who + " No further attempt will be made. Other recipients of the message, if it had any, are not concerned."
}

// cause leads in what stood in the way, or who took it.
func cause(r Report, f Failure) string {
	var s string
	switch {
	case r.Action == Relayed || r.Action == Delivered:
		return taken(f)
	case f.Later:
		return "The report says:"
	case (f.Expired || r.Action == Delayed) && f.Attempts > 1:
		s = fmt.Sprintf("It was tried %d times over %s. The last time ", f.Attempts, days(r.Now.Sub(r.Arrived)))
	case f.Expired:
		s = fmt.Sprintf("It was tried over %s. The last time ", days(r.Now.Sub(r.Arrived)))
	}
	switch {
	case f.Said && f.Host != "":
		s += "the server " + ascii(f.Host) + " said:"
	case f.Host != "":
		s += "there was a problem with the server " + ascii(f.Host) + ":"
	default:
		s += "this stood in the way:"
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// taken says which server took it.
func taken(f Failure) string {
	switch {
	case f.Host == "":
		return "It was taken."
	case f.Reply != "":
		return "The server " + ascii(f.Host) + " took it and said:"
	}
	return "The server " + ascii(f.Host) + " took it."
}

func days(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", d/time.Hour)
	}
	return fmt.Sprintf("%d minutes", max(d/time.Minute, 1))
}

// advice is what a sender can do about a status: by subject and detail of RFC
// 3463 and the registry of RFC 5248, the general after the particular.
func advice(status string) string {
	for _, a := range []struct{ prefix, text string }{
		{"5.1.1", "check the part before the @ for a typing error, or ask the recipient for the right address in another way."},
		{"5.1.2", "check the part after the @ for a typing error: there is no such domain."},
		{"5.1.10", "choose another address: the domain says that it takes no mail at all."},
		{"5.1.", "check the address with the recipient in another way."},
		{"5.2.2", "tell the recipient in another way that the mailbox is full, and send the message again later."},
		{"5.2.", "ask the recipient in another way whether the mailbox is still in use."},
		{"5.3.4", "send a smaller message, or share large files in another way."},
		{"5.4.6", "tell the postmaster of the recipient's domain that its mail goes in a circle."},
		{"5.4.", "try again later; if it goes on, tell the recipient in another way that their mail server cannot be reached."},
		{"5.6.", "send the message in another form: the recipient's server cannot take this one."},
		{"5.7.", "ask the recipient, in another way, to have their postmaster allow your mail; the words of the server above say what it dislikes."},
	} {
		if strings.HasPrefix(status+".", a.prefix) && (strings.HasSuffix(a.prefix, ".") || status == a.prefix) {
			return a.text
		}
	}
	return "forward this report to your postmaster; the words above say what is wrong."
}

// writeParagraph writes words in lines of at most textWidth columns where words
// allow it.
func writeParagraph(b *strings.Builder, indent, text string) {
	column := 0
	for word := range strings.FieldsSeq(text) {
		switch {
		case column == 0:
			b.WriteString(indent)
			column = len(indent)
		case column+1+len(word) > textWidth:
			b.WriteString("\r\n" + indent)
			column = len(indent)
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	b.WriteString("\r\n")
}
