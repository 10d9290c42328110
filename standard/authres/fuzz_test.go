package authres

import (
	"testing"

	"anechoic/mail"
)

// FuzzParse: what is read can be written, and then reads the same.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"mx.example 1; none",
		"example.com;\r\n dkim=pass (good signature) header.d=example.com;\r\n\tspf=fail smtp.mailfrom=hq@example.com",
		"(a(b)c) \"mx.example\" (;) 1 (x) ; SPF / 1 = Pass (\\)first) reason = \"be\\\"cause\" smtp . MailFrom = \"a;b\"@x.example ;",
		"mx.microsoft.com 1; spf=pass (sender ip is 192.0.2.84) smtp.rcpttodomain=r.example smtp.mailfrom=d.example; dmarc=pass action=none header.from=d.example; arc=none (0)",
		"mx.example; dkim=pass header.b=Ab/c+d=; spf=pass smtp.mailfrom=jörg@bücher.example; iprev=pass policy.iprev=2001:db8::1",
		"spf=pass smtp.mailfrom=a", "=?utf-8?q?mx?=; a=b",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := Parse(body)
		if err != nil {
			return
		}
		if r.ID == "" || len(r.Methods) > MaxResults {
			t.Fatalf("%+v", r)
		}
		for _, m := range r.Methods {
			if !keyword(m.Method) || !keyword(m.Value) {
				t.Fatalf("%+v", m)
			}
		}
		checkRoundTrip(t, r)
		if header, err := mail.ParseHeader(append(append([]byte("Authentication-Results:"), body...), "\r\n"...), mail.HeaderLimits{}); err == nil && len(header.Fields) == 1 {
			if !Ours(header.Fields[0], r.ID) {
				t.Fatalf("%q is not seen to be of %q", body, r.ID)
			}
		}
	})
}

// FuzzReceivedSPF: what is read can be written, and then reads the same.
func FuzzReceivedSPF(f *testing.F) {
	for _, s := range []string{
		"pass (mx.example: it is (so)) receiver=mx.example; client-ip=192.0.2.1;\r\n envelope-from=\"ada@t.example\"; helo=h.example; identity=mailfrom",
		"Fail (p.example: no) receiver=p.example; client-ip=2001:db8::1; helo=h.example; pr=C;", "none", "pass; receiver=x", "softfail problem=\"a\\\"b;\"",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := ParseReceivedSPF(body)
		if err != nil {
			return
		}
		checkReceivedSPF(t, r)
		if r.Receiver != "" && !Ours(r.Field(), r.Receiver) {
			t.Fatalf("%q is not seen to be of %q", body, r.Receiver)
		}
	})
}
