package lab

import (
	"testing"

	"anechoic/standard/dmarc"
)

func TestWhereALargeProviderPutsMail(t *testing.T) {
	for name, c := range map[string]struct {
		result        dmarc.Result
		authenticated bool
		want          Place
	}{
		"a pass":                               {dmarc.Result{Status: dmarc.Pass, Policy: dmarc.PolicyReject}, true, Inbox},
		"a fail, and the owner wants reject":   {dmarc.Result{Status: dmarc.Fail, Policy: dmarc.PolicyReject}, true, Rejected},
		"a fail, and the owner wants spam":     {dmarc.Result{Status: dmarc.Fail, Policy: dmarc.PolicyQuarantine}, true, Spam},
		"a fail without wish, somebody's mail": {dmarc.Result{Status: dmarc.Fail, Policy: dmarc.PolicyNone}, true, Inbox},
		"a fail without wish, nobody's mail":   {dmarc.Result{Status: dmarc.Fail, Policy: dmarc.PolicyNone}, false, Rejected},
		"no policy, somebody's mail":           {dmarc.Result{Status: dmarc.None}, true, Inbox},
		"no policy, nobody's mail":             {dmarc.Result{Status: dmarc.None}, false, Rejected},
		"no answer":                            {dmarc.Result{Status: dmarc.TempError}, true, Spam},
		"no author":                            {dmarc.Result{Status: dmarc.PermError}, true, Rejected},
	} {
		t.Run(name, func(t *testing.T) {
			if got := PlaceOf(c.result, c.authenticated); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}
