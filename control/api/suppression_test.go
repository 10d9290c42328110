package api

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"anechoic/ledger"
	"anechoic/relay/suppression"
)

// newSuppressing is a relay with suppression lists; acme has one if the registry
// says so.
func newSuppressing(t testing.TB, on bool) *relay {
	text := registry
	if on {
		text = strings.Replace(registry, "name = \"Acme\"\n", "name = \"Acme\"\nsuppression = {}\n", 1)
	}
	r := newRelay(t, text)
	r.Suppression = suppression.New(r.engine, bytes.Repeat([]byte{1}, 32))
	return r
}

func TestAnAddressIsPutOnAListAndTakenOff(t *testing.T) {
	r := newSuppressing(t, true)
	const list = "/api/v1/suppression/acme"
	var done SuppressionChange
	if code := r.call(t, http.MethodPost, list+"/add", `{"address":"bob@globex.test","note":"asked"}`, &done); code != http.StatusOK || done.Marks != 1 {
		t.Fatalf("%d: %+v", code, done)
	}
	var page SuppressionPage
	for _, path := range []string{list, list + "?address=BOB@globex.test"} {
		if code := r.call(t, http.MethodGet, path, "", &page); code != http.StatusOK || !page.On || len(page.Addresses) != 1 {
			t.Fatalf("%d: %+v", code, page)
		}
	}
	if a := page.Addresses[0]; !a.Suppressed || a.Reason != suppression.Manual || a.Marks[0].Note != "asked" || a.Until.Before(time.Now().Add(300*24*time.Hour)) {
		t.Errorf("%+v", a)
	}
	for _, want := range []int{1, 0} {
		if code := r.call(t, http.MethodPost, list+"/remove", `{"address":"bob@globex.test"}`, &done); code != http.StatusOK || done.Marks != want {
			t.Errorf("%d: %+v, want %d marks", code, done, want)
		}
	}
	changes := 0
	if err := ledger.Read(context.Background(), r.engine, 0, func(f ledger.Fact) bool {
		if f.Event == ledger.SuppressionChanged && f.Org == "acme" && f.Rcpt[0] == "bob@globex.test" {
			changes++
		}
		return true
	}); err != nil || changes != 2 {
		t.Errorf("%d changes are told, %v", changes, err)
	}
}

func TestWhatNoListTakesIsRefusedWithAHint(t *testing.T) {
	on, off := newSuppressing(t, true), newSuppressing(t, false)
	for _, test := range []struct {
		name               string
		r                  *relay
		method, path, body string
		status             int
	}{
		{"an unknown organisation", on, http.MethodGet, "/api/v1/suppression/nobody", "", http.StatusNotFound},
		{"an unknown verb", on, http.MethodPost, "/api/v1/suppression/acme/forget", `{"address":"bob@globex.test"}`, http.StatusNotFound},
		{"no address", on, http.MethodPost, "/api/v1/suppression/acme/add", `{}`, http.StatusBadRequest},
		{"a time that is over", on, http.MethodPost, "/api/v1/suppression/acme/add", `{"address":"bob@globex.test","until":"2020-01-01T00:00:00Z"}`, http.StatusBadRequest},
		{"a long note", on, http.MethodPost, "/api/v1/suppression/acme/add", `{"address":"bob@globex.test","note":"` + strings.Repeat("x", maxNote+1) + `"}`, http.StatusBadRequest},
		{"no list", off, http.MethodPost, "/api/v1/suppression/acme/add", `{"address":"bob@globex.test"}`, http.StatusConflict},
	} {
		t.Run(test.name, func(t *testing.T) {
			if p := test.r.refused(t, test.method, test.path, test.body); p.Status != test.status || p.Fix == "" {
				t.Errorf("%+v", p)
			}
		})
	}
	var page SuppressionPage
	if code := off.call(t, http.MethodGet, "/api/v1/suppression/acme", "", &page); code != http.StatusOK || page.On {
		t.Errorf("%d: %+v", code, page)
	}
}
