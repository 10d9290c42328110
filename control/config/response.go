package config

import (
	"time"

	"anechoic/watch/response"
)

// Response is how far the relay goes by itself against what detection finds.
type Response struct {
	Ceiling                response.Step // whatever an organisation allows, no further
	LearnFor               time.Duration // how long an organisation is here before anything is done without a person
	RecipientsPerSignature int           // in an hour, of messages that came with the same DKIM signature; 0: any number
}

type responseTable struct {
	Ceiling                string `toml:"ceiling"`
	LearnFor               string `toml:"learn_for"`
	RecipientsPerSignature int    `toml:"recipients_per_signature"`
}

// maxLearn bounds response.learn_for: detection remembers twelve weeks.
const maxLearn = 90 * 24 * time.Hour

func (c *checker) response(t *responseTable) Response {
	c.choice("response.ceiling", t.Ceiling, response.Names()...)
	step, _ := response.ParseStep(t.Ceiling) // what is none was just refused
	return Response{Ceiling: step, LearnFor: c.duration("response.learn_for", t.LearnFor, 0, maxLearn), RecipientsPerSignature: c.number("response.recipients_per_signature", t.RecipientsPerSignature, 0, maxCount)}
}
