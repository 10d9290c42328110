package delivery

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
)

func TestAProbeAsksAndSendsNothing(t *testing.T) {
	hungUp := "deferred 4.4.1 192.0.2.1:25: EHLO: the server closed the connection"
	for name, c := range map[string]struct {
		script string
		want   []string
	}{
		"each recipient gets an answer": {`
S: 220 mail.inside.example
C: EHLO relay.anechoic.test
S: 250-mail.inside.example
S: 250-CHUNKING
S: 250 PIPELINING
C: MAIL FROM:<>
S: 250 Ok
C: RCPT TO:<bob@globex.example>
S: 250 Ok
C: RCPT TO:<gone@globex.example>
S: 550 5.1.1 No such user
C: RCPT TO:<later@globex.example>
S: 450 4.2.1 Not now
C: RSET
S: 250 Ok`, []string{"delivered 2.1.5 the recipient is accepted", "failed 5.1.1 550 5.1.1 No such user", "deferred 4.2.1 450 4.2.1 Not now"}},
		"a server that takes nothing from us says nothing of recipients": {`
S: 220 mail.inside.example
C: EHLO relay.anechoic.test
S: 250 mail.inside.example
C: MAIL FROM:<>
S: 550 5.7.1 Go away
C: RSET
S: 250 Ok`, []string{"deferred 5.7.1 550 5.7.1 Go away", "deferred 5.7.1 550 5.7.1 Go away", "deferred 5.7.1 550 5.7.1 Go away"}},
		"a server that hangs up says nothing either": {`
S: 220 mail.inside.example
C: EHLO relay.anechoic.test
CLOSE`, []string{hungUp, hungUp, hungUp}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := parseDialogue(t, name, "from: <>\nto: bob@globex.example, gone@globex.example, later@globex.example\nhosts: mail.inside.example[192.0.2.1]\nprobe: yes\n\nCONNECT 192.0.2.1:25\n"+strings.TrimSpace(c.script)+"\n")
				if diff := cmp.Diff(c.want, d.run(t, nil)); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}
