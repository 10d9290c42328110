package org

import "slices"

// Response is how far the relay goes by itself against what detection finds in an
// organisation's mail.
type Response struct {
	Automatic string // the strongest step that nobody is asked about, one of ResponseSteps
}

// ResponseSteps are the steps of the ladder, the weakest first (docs/response.md).
var ResponseSteps = []string{"log", DefaultResponse, "hold", "suspend", "kill"}

// DefaultResponse is how far it goes where the registry says nothing: mail is put off,
// nothing is lost.
const DefaultResponse = "throttle"

// ResponseEntry is [organisation.response].
type ResponseEntry struct {
	Automatic string `toml:"automatic"`
}

// response checks how far the relay may go.
func (b *builder) response(i int) {
	e, o := b.reg.Organisations[i].Response, b.dir.organisations[i]
	o.Response.Automatic = DefaultResponse
	if e == nil || e.Automatic == "" {
		return
	}
	if o.Response.Automatic = e.Automatic; !slices.Contains(ResponseSteps, e.Automatic) {
		b.refuse(b.below("organisation", i)+".response.automatic", `"log", "throttle", "hold", "suspend" or "kill"`, "%q is no step", e.Automatic)
	}
}
