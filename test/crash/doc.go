// Package crash kills the real program at random moments under load, again and
// again, and accounts for every message it acknowledged.
package crash
