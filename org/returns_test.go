package org

import (
	"testing"
	"time"
)

func TestReportsComeBackToOneOrganisation(t *testing.T) {
	_, d := verdict("testdata/good/return-path.toml")
	for name, want := range map[string]ID{"bounces.acme.test": "acme", "b.globex.test": "globex", "acme.test": "", "x.bounces.acme.test": ""} {
		o, ok := d.ReturnPath(domain(t, name))
		if ok != (want != "") || ok && o.ID != want {
			t.Errorf("%s: %v, want %q", name, o, want)
		}
	}
	acme, _ := d.Organisation("acme")
	globex, _ := d.Organisation("globex")
	if *acme.Suppression != DefaultSuppression || *globex.Suppression != (Suppression{HardBounces: 1, BounceFor: 30 * 24 * time.Hour, ComplaintFor: 3650 * 24 * time.Hour}) {
		t.Errorf("%+v, %+v", acme.Suppression, globex.Suppression)
	}
}
