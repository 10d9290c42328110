// Package lab is the range: a whole internet on loopback in which the attack and
// the defence can be watched. It has DNS, a Microsoft 365 of several tenants that
// stamps as the real one does, attackers with tenants of their own, receivers
// that judge as large mailbox providers do (SPF, DKIM and DMARC), a permissive
// relay of the 2024 kind, and this project's relay, unchanged.
//
// Demo runs a Scenario, which is data: who is there, what is sent in which order,
// and what is expected of it. One runner plays all of them, counts by kind of
// letter, and has the result checked; screen, comparison and picture only show it
// and are pure but for the writing.
//
// The permissive relay exists here only. It is no configuration of the real one:
// there is nothing in it that could be switched on by mistake.
//
// Names end in .example or are those a provider's mail really bears; addresses
// are loopback: 127.40.0.0/16 is the provider's, 127.50.0.0/16 the receivers',
// 127.60.0.0/16 the customers' own, 127.70.0.0/16 the attacker's, 127.80.0.0/16 a
// hosting company's.
package lab
