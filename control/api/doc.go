// Package api is the HTTP and JSON face of a running relay: what control.sock
// answers, and the operations listener.
//
// Server.Handler serves /api/v1 to whoever passed Listen: status, keys, queue,
// log and reload. Operations.Handler serves /livez, /readyz and /metrics. Client
// speaks to the former for the command line.
//
// Listen makes <data_dir>/control.sock with mode 0600, and hands over only
// connections whose peer runs as the same user as the relay, or as root. Nothing
// else authenticates, so Handler must never be served on a TCP address as it is.
//
// Every error is an RFC 9457 problem with a stable code and what to do next.
// Requests are bounded in size and time; lists come in pages, long answers as
// one JSON object a line. Handlers decide nothing about mail: they ask the
// queue, the ledger and the Directory, and repeat what those say.
package api
