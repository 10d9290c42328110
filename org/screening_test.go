package org

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"anechoic/mail"
)

func TestWhatNothingSaysIsHeldComingInAndToldGoingOut(t *testing.T) {
	_, dir := verdict("testdata/good/every-kind.toml")
	o, ok := dir.Organisation("acme")
	if !ok {
		t.Fatal("there is no acme")
	}
	want := Screening{Inbound: ScreeningWay{Checks: ScreeningHold}, Outbound: ScreeningWay{Checks: ScreeningMark}}
	if diff := cmp.Diff(want, o.Screening); diff != "" {
		t.Error(diff)
	}
}

func TestAnOrganisationSaysWhatChecksDo(t *testing.T) {
	_, dir := verdict("testdata/good/screening.toml")
	acme, _ := dir.Organisation("acme")
	globex, ok := dir.Organisation("globex")
	if !ok {
		t.Fatal("there is no globex")
	}
	domain := func(name string) mail.Domain {
		d, err := mail.ParseDomain(name)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	want := Screening{
		Inbound:  ScreeningWay{OnLoss: ScreeningHold, HoldAt: 6, RefuseAt: 12, Checks: ScreeningRefuse, Blocked: []string{"iso", "7z"}},
		Outbound: ScreeningWay{Off: true, Checks: ScreeningOff},
		People:   []string{"Ann Example", "Müller, Jürgen"},
		Domains:  []mail.Domain{domain("partner.test"), domain("xn--bcher-kva.test")},
	}
	if diff := cmp.Diff(want, acme.Screening, cmp.Comparer(func(a, b mail.Domain) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	if way := globex.Screening.Outbound; way.Checks != ScreeningOff || way.Off || way.Blocked == nil || len(way.Blocked) > 0 {
		t.Errorf("globex, outbound: %+v", way)
	}
}
