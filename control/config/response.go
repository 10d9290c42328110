package config

import (
	"anechoic/watch/response"
)

// Response is how far the relay goes by itself against what detection finds.
type Response struct {
	Ceiling                response.Step // whatever an organisation allows, no further
	RecipientsPerSignature int           // in an hour, of messages that came with the same DKIM signature; 0: any number
}

type responseTable struct {
	Ceiling                string `toml:"ceiling"`
	RecipientsPerSignature int    `toml:"recipients_per_signature"`
}

func (c *checker) response(t *responseTable) Response {
	c.choice("response.ceiling", t.Ceiling, response.Names()...)
	step, _ := response.ParseStep(t.Ceiling) // what is none was just refused
	return Response{Ceiling: step, RecipientsPerSignature: c.number("response.recipients_per_signature", t.RecipientsPerSignature, 0, maxCount)}
}
