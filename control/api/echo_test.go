package api

import (
	"net/http"
	"testing"
	"time"

	"anechoic/mail"
	"anechoic/relay/inbound/echo"
)

// strangerTenant sends as partner.test and is nobody's.
const strangerTenant = "66666666-6666-4666-8666-666666666666"

// sawStranger teaches a table of one message.
func sawStranger(t *testing.T, table *echo.Table) {
	t.Helper()
	from, err := mail.ParseDomain("partner.test")
	if err != nil {
		t.Fatal(err)
	}
	table.Observe(echo.Rule{}, echo.Observation{
		Time: time.Now(), From: from, Organisational: from, DMARC: true, SPF: true,
		Stamps: echo.Stamps{Tenant: strangerTenant, Any: true, Entry: echo.Outside},
	})
}

func TestWhatWasLearnedOfADomainIsShownAndForgotten(t *testing.T) {
	r := newRelay(t, registry)
	sawStranger(t, r.Echoes)
	var profile EchoProfile
	for _, name := range []string{"partner.test", "MAIL.partner.test"} {
		if code := r.call(t, http.MethodGet, "/api/v1/echo/"+name, "", &profile); code != http.StatusOK || profile.Domain != "partner.test" || len(profile.Strangers) != 1 || profile.Strangers[0].ID != strangerTenant {
			t.Errorf("%s: %d: %+v", name, code, profile)
		}
	}
	var done EchoForgotten
	if code := r.call(t, http.MethodPost, "/api/v1/echo/partner.test/forget", "", &done); code != http.StatusOK || done.Domain != "partner.test" {
		t.Errorf("%d: %+v", code, done)
	}
	for path, method := range map[string]string{"/api/v1/echo/partner.test": http.MethodGet, "/api/v1/echo/partner.test/forget": http.MethodPost} {
		var p Problem
		if code := r.call(t, method, path, "", &p); code != http.StatusNotFound || p.Fix == "" {
			t.Errorf("%s: %d: %+v", path, code, p)
		}
	}
	var p Problem
	if code := r.call(t, http.MethodGet, "/api/v1/echo/not_a_domain", "", &p); code != http.StatusBadRequest || p.Reason != mail.ReasonSyntax {
		t.Errorf("%d: %+v", code, p)
	}
}
