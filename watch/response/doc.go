// Package response decides how far the relay goes against what detection found: it
// climbs the ladder of steps, one at a time, and comes down again.
//
//	Finding ─► Machine.Consider ─► Change ─► the program writes it down and puts Overlay in force
//	time    ─► Machine.Tick     ─► Change       (until it did, nothing has happened)
//	person  ─► Machine.Apply, Machine.End ─► Change
//
// What it guarantees:
//
//   - An Order reaches no further than the scope of its finding: one organisation,
//     and of it one source or one From domain, or both. A finding about a whole
//     organisation does no more by itself than throttle.
//   - By itself it goes no further than the organisation allows, and the operator.
//     What lies beyond is proposed, and waits for a person.
//   - By itself it climbs one step at a time, and only when the finding goes on after
//     the step before had time to work. At its end a stronger step becomes a throttle
//     for a while, before it is nothing.
//   - What a person ended, findings of the same kinds about the same scope do not
//     bring back for a day. What a person put in force stays as it is until it is
//     over, or a person changes it.
//   - Every step only takes something away. None allows what was refused.
//
// It is pure: no clock, no goroutine, no store. Orders is its whole state.
package response
