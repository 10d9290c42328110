package acceptance

import (
	"os"
	"strings"
	"testing"

	"anechoic/mail"
	"anechoic/relay/custody"
)

// shapingOf is a shaping file for the test's recipients.
func shapingOf(lines string) string {
	return "[[site]]\ndomains = [\"" + mailbox + "\"]\n" + lines + "\n"
}

// kept sends a letter and gives its id.
func (r *relay) kept(t *testing.T, l letter) mail.ID {
	t.Helper()
	stage, answer := r.send(t, l)
	if answer.code != 250 {
		t.Fatalf("at %s: %s", stage, answer)
	}
	return acceptedID(answer)
}

// What the shaping file says counts for mail that waits already, and a file with a
// problem in it changes nothing.
func TestAReloadedShapingFileCountsForMailThatWaits(t *testing.T) {
	r := newRelay(t, registry(), nil)
	text, err := os.ReadFile(r.configFile())
	if err != nil {
		t.Fatal(err)
	}
	r.write(t, "relay.toml", strings.Replace(string(text), "[delivery]\n", "[delivery]\nshaping = \"shaping.toml\"\n", 1))
	r.write(t, "shaping.toml", shapingOf("messages = 1\nper = \"24h\""))
	r.restart(t)
	r.acceptedAndDelivered(t, mailFromUser("app@globex", "first@globex.test"))
	waits := mailFromUser("app@globex", "second@globex.test")
	id := r.kept(t, waits)
	itWaits := func() bool { return len(r.queued(t, id, custody.StateLeased)) == 1 } // beside its site
	eventually(t, "the second waits for its turn", itWaits)

	r.write(t, "shaping.toml", shapingOf("messages = 1000\nper = \"1m\"\nconections = 3"))
	if err := r.app.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "shaping.toml:5") || !strings.Contains(err.Error(), "conections") {
		t.Fatalf("a file with a problem is answered %v", err)
	}
	third := r.kept(t, mailFromUser("app@globex", "third@globex.test"))
	eventually(t, "the third waits too", func() bool { return len(r.queued(t, third, custody.StateLeased)) == 1 })
	if _, arrived := r.receiver.Judgement(messageID(waits.data)); arrived || !itWaits() {
		t.Error("the file that was refused lets more go")
	}

	r.write(t, "shaping.toml", shapingOf("messages = 1000\nper = \"1m\""))
	r.reload(t)
	r.await(t, messageID(waits.data))
}
