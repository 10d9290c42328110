package migrate

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// small drafts a main.cf, and a master.cf if there is one.
func small(t *testing.T, main, master string) *Plan {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.cf"), []byte(main), 0o600); err != nil {
		t.Fatal(err)
	}
	if master != "" {
		if err := os.WriteFile(filepath.Join(dir, "master.cf"), []byte(master), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return plan(t, Options{Main: filepath.Join(dir, "main.cf")}, Wishes{})
}

func kinds(p *Plan) (list []string) {
	for _, h := range p.Holes {
		if !slices.Contains(list, h.Kind) {
			list = append(list, h.Kind)
		}
	}
	return list
}

// TestHolesAreFoundAndNothingElse: what each mistake is called, and that its cure is
// not.
func TestHolesAreFoundAndNothingElse(t *testing.T) {
	const name = "myhostname = mail.acme.example\n"
	for _, test := range []struct {
		name, main, master string
		want               []string
	}{
		{"nothing", name, "", nil},
		{"one server of one's own", name + "mynetworks = 203.0.113.9 127.0.0.0/8\nsmtpd_sender_restrictions = reject_sender_login_mismatch\nsmtpd_sender_login_maps = inline:{ann@acme.example=ann}", "", nil},
		{"permitted before the sender is looked at", name + "mynetworks = 203.0.113.9\nsmtpd_sender_restrictions = permit_mynetworks, reject_sender_login_mismatch", "", []string{NetworkSender}},
		{"open", name + "smtpd_relay_restrictions = permit_mynetworks, permit\nmynetworks=127.0.0.1", "", []string{OpenRelay}},
		{"open by a permit before", name + "smtpd_relay_restrictions = permit, reject_unauth_destination", "", []string{OpenRelay}},
		{"closed by the recipients' list", name + "smtpd_relay_restrictions =\nsmtpd_recipient_restrictions = permit_mynetworks, reject_unauth_destination", "", nil},
		{"users as anybody", name + "smtpd_sasl_auth_enable = yes\nsmtpd_tls_auth_only = yes", "", []string{AnySender}},
		{"users compared too late", name + "smtpd_sasl_auth_enable = yes\nsmtpd_tls_auth_only = yes\nsmtpd_sender_login_maps=inline:{a@acme.example=a}\nsmtpd_sender_restrictions = permit_sasl_authenticated, reject_sender_login_mismatch", "", []string{AnySender}},
		{"users compared by MAIL FROM", name + "smtpd_sasl_auth_enable = yes\nsmtpd_tls_auth_only = yes\nsmtpd_sender_login_maps=inline:{a@acme.example=a}\nsmtpd_sender_restrictions = reject_sender_login_mismatch", "", []string{FromUnchecked}},
		{"compared by a class of one's own", name + "smtpd_sasl_auth_enable = yes\nsmtpd_tls_auth_only = yes\nsmtpd_restriction_classes = mine\nmine = reject_sender_login_mismatch\nsmtpd_sender_login_maps=inline:{a@acme.example=a}\nsmtpd_sender_restrictions = mine", "", []string{FromUnchecked}},
		{"one port differs", name + "smtpd_tls_security_level = encrypt", "smtp inet n - n - - smtpd\n587 inet n - n - - smtpd -o smtpd_sasl_auth_enable=yes\n", []string{AnySender}},
		{"password in clear", name + "smtpd_sasl_auth_enable = yes\nsmtpd_relay_restrictions = reject_unauth_destination", "", []string{ClearPassword}},
		{"the whole internet", name + "mynetworks = 0.0.0.0/0", "", []string{ProviderRange, NetworkSender}},
		{"a provider by XCLIENT", name + "smtpd_authorized_xclient_hosts = 192.0.2.1", "", []string{ClientClaims}},
		{"catch-all", name + "luser_relay = x@acme.example\nlocal_recipient_maps =", "", []string{CatchAll}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := small(t, test.main, test.master)
			if diff := cmp.Diff(test.want, kinds(p)); diff != "" {
				t.Error(diff)
			}
			written(t, p)
		})
	}
}

// TestNothingIsPassedOverInSilence: every parameter that is written is taken over,
// looked at, or listed.
func TestNothingIsPassedOverInSilence(t *testing.T) {
	p := small(t, "myhostname = mail.acme.example\nsender_canonical_maps = hash:/x\nxyz = 1\ndefault_transport = uucp\nstray\nempty =\n", "smtp inet n - n - - smtpd\nshort\nfilter unix - n n - - pipe argv=/x\n")
	var all []string
	for _, l := range p.Left {
		all = append(all, l.What)
		if l.Why == "" || l.Do == "" || l.At.File == "" {
			t.Errorf("%+v is not told in full", l)
		}
	}
	text := strings.Join(all, "\n")
	for _, want := range []string{"sender_canonical_maps = hash:/x", "xyz = 1", "default_transport = uucp", "stray", "short", "filter/unix pipe"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not among\n%s", want, text)
		}
	}
	if at := strings.Index(text, "default_transport"); at > strings.Index(text, "xyz") {
		t.Errorf("what matters most does not come first:\n%s", text)
	}
}

// TestHostileConfigurationsAreReadInTime: variables that double thirty times, brackets a
// hundred thousand deep, a line of megabytes, octets that are no UTF-8.
func TestHostileConfigurationsAreReadInTime(t *testing.T) {
	var doubling strings.Builder
	doubling.WriteString("a0 = x\n")
	for i := 1; i < 40; i++ {
		n := string(rune('a'+i/26)) + string(rune('a'+i%26))
		before := "a0"
		if i > 1 {
			before = string(rune('a'+(i-1)/26)) + string(rune('a'+(i-1)%26))
		}
		doubling.WriteString(n + " = $" + before + " $" + before + "\n")
	}
	for _, text := range []string{
		doubling.String() + "mynetworks = $bn\n",
		"mynetworks = " + strings.Repeat("${a?{", 100_000) + "\n",
		"mynetworks = " + strings.Repeat("10.0.0.1, ", 200_000) + "\n",
		"mynetworks = \xff\xfe \x00\x1b[2J\nmyhostname = \xff.example\n",
	} {
		written(t, small(t, text, ""))
	}
}
