// Package campaign makes traffic with ground truth: what organisations send over
// weeks, what happens to them that only looks like an attack, and attacks.
//
//	Parameters + seed ─► World ─► Items: an Event and its Label, in order of time
//	                         ├──► WriteFacts: JSON lines, as `anechoic log search --json` prints them, and labels
//	                         └──► Letters: some hundred of the messages, for a relay in the range
//
// The same parameters and seed give the same items, to the last bit, on every
// machine. Items are made as they are asked for: a year of traffic needs no more
// memory than an hour of it.
//
// Nothing is taken from real mail. How people send is modelled from what is
// generally known: more by day than by night, by the clock of their own country,
// less at weekends; few organisations send most of the mail; most recipients were
// written to before. The numbers are in parameters/*.json; they are assumptions, and
// each set shifts some of them, so that a detector that fits one set only is found
// out.
//
// Times and addresses of the attacks follow what was published of the campaign of
// 2024 (docs/detection.md has the sources). All names end in .example or are free-mail
// providers' real ones; nothing here can be sent to them: Letters only address
// receivers of the range.
package campaign
