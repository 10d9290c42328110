// Package alert tells people what the relay sees: organisations by mail to their
// security contact, the operator too, and programs by webhooks and syslog.
//
//	Alert ─► Tell ─► Incident ─► worth telling? ─► mail, webhook requests, syslog lines
//
// Many alerts with one Key are one Incident. It is told of when it opens, when it
// has doubled or become more severe, and when it ends: never once a message.
//
// Tell returns after the incident and the webhook requests are durable, in one
// batch; Run delivers them, also after a restart. What stops in the middle:
//
//	stop after                         what happens at the next start
//	Tell returned                      everything is delivered
//	a webhook answered, before it is   the request is sent again with the same
//	written down                       webhook-id, by which a receiver knows it
//	a mail was kept, before it is      the mail is sent again
//	written down
//
// Syslog is the exception: its lines wait in memory, a bounded number of them, and
// what does not fit is counted and dropped. Nothing here ever waits for a receiver
// while somebody tells.
//
// Everything in an alert may have been written by a stranger. It is bounded and made
// printable as it comes in, escaped for each format, and in mail nothing of it
// can be clicked.
package alert
